// What stays in the kernel without a daemon: real pins on a bpf file system of our own.
#include "ebpf/pins.h"

#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include "ebpf/bpf_programs.h"
#include "os/error.h"
#include "tap.h"

using namespace janus;
namespace fs = std::filesystem;

namespace {

std::size_t entries(const fs::path& directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

}  // namespace

int main() {
  char name[] = "/tmp/janusd-pins.XXXXXX";
  const fs::path parent = mkdtemp(name);
  const fs::path base = parent / "janusd";
  const BpfPrograms programs;
  const auto refused = [&](const std::vector<std::pair<std::string, int>>& links) {
    try {
      const Pins pins(links, base);
    } catch (const Error&) {
      return true;
    }
    return false;
  };
  CHECK(refused(programs.kept_links()) && !fs::exists(base));  // no such file system there
  if (mount("none", parent.c_str(), "bpf", 0, nullptr) != 0) std::abort();
  CHECK(refused({{"none", -1}}) && entries(base) == 0);
  {
    std::optional<Pins> first(std::in_place, programs.kept_links(), base);
    CHECK(entries(base) == 1 && entries(fs::directory_iterator(base)->path()) == 3);
    {
      const Pins beside(programs.kept_links(), base);
      CHECK(entries(base) == 2);
      CHECK(beside.take_over() == 0 && entries(base) == 2);  // the first one lives
      first.reset();
      CHECK(entries(base) == 2);  // and what it has pinned stays
      CHECK(beside.take_over() == 1 && entries(base) == 1);
      CHECK(beside.take_over() == 0 && entries(base) == 1);
    }
    const Pins next(programs.kept_links(), base);
    CHECK(next.take_over() == 1 && entries(base) == 1);
  }
  umount(parent.c_str());
  fs::remove(parent);
  return tap::done();
}
