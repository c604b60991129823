#include "ebpf/pins.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "os/clock.h"
#include "os/error.h"

namespace janus {
namespace {

namespace fs = std::filesystem;

UniqueFd open_directory(const std::string& path) { return UniqueFd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }

// Of the daemon that the directory is of: boot time.
std::uint64_t started(std::string_view directory) {
  const std::string_view text = directory.substr(directory.rfind('-') + 1);
  std::uint64_t ns = 0;
  std::from_chars(text.data(), text.data() + text.size(), ns);
  return ns;
}

// What is in it first, so that a directory that cannot be removed holds nothing.
void remove_directory(const fs::path& directory) {
  std::error_code failed;
  std::vector<fs::path> objects;
  for (const auto& object : fs::directory_iterator(directory, failed)) objects.push_back(object.path());
  for (const fs::path& object : objects) unlink(object.c_str());
  rmdir(directory.c_str());
}

}  // namespace

Pins::Pins(const std::vector<std::pair<std::string, int>>& objects, std::string base)
    : base_(std::move(base)), directory_(base_ + "/" + std::to_string(getpid()) + "-" + std::to_string(boot_ns())) {
  struct statfs status {};
  const std::string parent = fs::path(base_).parent_path();
  if (statfs(parent.c_str(), &status) != 0 || status.f_type != BPF_FS_MAGIC)
    throw Error(ErrorCode::unsupported, parent + " is no bpf file system");
  if (mkdir(base_.c_str(), 0700) != 0 && errno != EEXIST) throw Error::system(errno, "mkdir", base_);
  if (mkdir(directory_.c_str(), 0700) != 0) throw Error::system(errno, "mkdir", directory_);
  lock_ = open_directory(directory_);
  if (!lock_ || flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    const int number = errno;
    remove();
    throw Error::system(number, "flock", directory_);
  }
  for (const auto& [name, fd] : objects) {
    if (bpf_obj_pin(fd, (directory_ + "/" + name).c_str()) == 0) continue;
    const int number = errno;
    remove();
    throw Error::system(number, "BPF_OBJ_PIN", directory_ + "/" + name);
  }
}

void TakenOver::add(const TakenOver& more) {
  daemons += more.daemons;
  away_ns += more.away_ns;
  for (std::size_t which = 0; which < counts.size(); ++which) counts[which] += more.counts[which];
  layouts.insert(layouts.end(), more.layouts.begin(), more.layouts.end());
}

void Pins::remove() const { remove_directory(directory_); }

std::vector<std::string> Pins::others() const {
  std::error_code failed;
  std::vector<std::string> others;
  for (const auto& other : fs::directory_iterator(base_, failed))
    if (other.path() != directory_) others.push_back(other.path());
  return others;
}

TakenOver Pins::take_over() const {
  TakenOver all;
  std::uint64_t left_ns = 0;
  for (const std::string& other : others()) {
    const UniqueFd lock = open_directory(other);
    Kept kept(other);
    if (!lock || flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {  // its daemon lives
      if (started(other) < started(directory_)) kept.name_heir();
      continue;
    }
    kept.end();
    ++all.daemons;
    if (const janus_presence* of = kept.presence(); of == nullptr) {
      all.layouts.push_back(kept.layout());
    } else if (of->settled && !of->heir) {
      left_ns = std::max<std::uint64_t>(left_ns, of->left_ns);
      const AwayCounts counts = kept.counts();
      for (std::size_t which = 0; which < counts.size(); ++which) all.counts[which] += counts[which];
    }
    remove_directory(other);
  }
  if (left_ns != 0) all.away_ns = boot_ns() - left_ns;
  return all;
}

}  // namespace janus
