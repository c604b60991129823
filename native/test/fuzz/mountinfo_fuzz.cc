// /proc/PID/mountinfo: a container chooses the number of its mounts, and what they and their roots are called.
// sources: cover/mounts.cc os/process_dir.cc os/descriptors.cc policy/policy.cc policy/rule_table.cc policy/glob.cc
#include <map>

#include "cover/mounts.h"
#include "test/fuzz/input.h"

using namespace janus;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::vector<Mount> mounts = parse_mountinfo(text);
  std::map<std::string, const Mount*> last;
  for (const Mount& mount : mounts) last[mount.point] = &mount;
  for (const Mount& mount : mounts) {
    CLAIM(mount.visible == (last[mount.point] == &mount), mount.point);
    CLAIM(mount.root != "/" && mount.point != "/");
    is_kernel_file_system(mount.type);
  }
  return 0;
}
