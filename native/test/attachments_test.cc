// A link that is gone is seen, though the program is still loaded.
#include "ebpf/attachments.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "ebpf/bpf_programs.h"
#include "os/unique_fd.h"
#include "tap.h"

using namespace janus;

namespace {

// A descriptor of ours that is a link; -1: there is none.
int any_link() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fdinfo")) {
    std::ifstream info(entry.path());
    for (std::string line; std::getline(info, line);)
      if (line.starts_with("link_id:")) return std::stoi(entry.path().filename());
  }
  return -1;
}

}  // namespace

int main() {
  const BpfPrograms programs;
  const auto before = programs.attached();
  CHECK(before.size() >= 5);
  const int link = any_link();
  close(link);
  const auto after = programs.attached();
  CHECK(after.size() == before.size() - 1);

  // The number is taken by something else: still not what it was.
  const UniqueFd other(dup(STDERR_FILENO));
  CHECK(other.get() == link);
  CHECK(programs.attached() == after);
  return tap::done();
}
