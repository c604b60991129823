// Parsing what the kernel prints: mountinfo lines.
#include "cover/mounts.h"
#include "tap.h"

using namespace janus;

int main() {
  const auto mounts = parse_mountinfo(
      "22 27 0:21 / / rw,relatime - overlay overlay rw,lowerdir=/a\n"
      "31 22 254:1 /var/lib/with\\040space /mnt/a\\011b rw shared:1 master:2 - ext4 /dev/vda rw\n"
      "a broken line\n"
      "40 22 0:5 / /proc rw - proc proc rw");
  CHECK(mounts.size() == 3);
  CHECK(mounts[0].id == 22 && mounts[0].device == 21 && mounts[0].root.empty() && mounts[0].point.empty());
  CHECK(mounts[0].type == "overlay");
  CHECK(mounts[1].device == (254u << 20 | 1u));
  CHECK(mounts[1].root == "/var/lib/with space" && mounts[1].point == "/mnt/a\tb" && mounts[1].type == "ext4");
  CHECK(is_kernel_file_system("proc") && !is_kernel_file_system("overlay") && !is_kernel_file_system("tmpfs"));
  return tap::done();
}
