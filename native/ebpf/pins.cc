#include "ebpf/pins.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "os/clock.h"
#include "os/error.h"

namespace janus {
namespace {

namespace fs = std::filesystem;

UniqueFd open_directory(const std::string& path) { return UniqueFd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }

// Links first, so that a directory that cannot be removed holds nothing.
void remove_directory(const fs::path& directory) {
  std::error_code failed;
  std::vector<fs::path> links;
  for (const auto& link : fs::directory_iterator(directory, failed)) links.push_back(link.path());
  for (const fs::path& link : links) unlink(link.c_str());
  rmdir(directory.c_str());
}

}  // namespace

Pins::Pins(const std::vector<std::pair<std::string, int>>& links, std::string base)
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
  for (const auto& [name, fd] : links) {
    if (bpf_obj_pin(fd, (directory_ + "/" + name).c_str()) == 0) continue;
    const int number = errno;
    remove();
    throw Error::system(number, "BPF_OBJ_PIN", directory_ + "/" + name);
  }
}

void Pins::remove() const { remove_directory(directory_); }

std::size_t Pins::take_over() const {
  std::error_code failed;
  std::vector<fs::path> others;
  for (const auto& other : fs::directory_iterator(base_, failed))
    if (other.path() != directory_) others.push_back(other.path());
  std::size_t gone = 0;
  for (const fs::path& other : others) {
    const UniqueFd lock = open_directory(other);
    if (!lock || flock(lock.get(), LOCK_EX | LOCK_NB) != 0) continue;  // its daemon lives
    remove_directory(other);
    ++gone;
  }
  return gone;
}

}  // namespace janus
