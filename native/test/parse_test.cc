// Parsing what the kernel prints: mountinfo lines.
#include <ctime>
#include <string>

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

  // What a server answers for, and what is reached through it only.
  const auto served = parse_mountinfo(
      "1 0 0:21 / / rw - overlay overlay rw\n"
      "2 1 0:30 / /data rw - fuse.sshfs x rw\n"
      "3 2 0:31 / /data/deep/er rw - tmpfs x rw\n"
      "4 1 0:32 / /data-2 rw - tmpfs x rw\n"
      "5 3 0:33 / /data/deep/er/nfs rw - nfs4 x rw\n"
      "6 1 0:5 / /proc rw - proc proc rw\n"
      "7 6 0:34 / /proc/acpi rw - tmpfs x rw\n");
  std::string which;
  for (const Mount& mount : served) which += mount.served ? '1' : '0';
  CHECK(which == "0110100");
  const MountPoints points = served_points(served);
  CHECK(points.size() == 2 && points.at("/data") == "fuse.sshfs" && points.at("/data/deep/er/nfs") == "nfs4");
  CHECK(parse_mountinfo("1 0 0:21 / / rw - nfs4 x rw\n2 1 0:22 / /a rw - tmpfs x rw\n")[1].served);
  // A container chooses how many there are: half of them nested as deep as can be.
  std::string many, deep;
  for (int i = 0; i < 20'000; ++i) {
    if (i < 1'000) deep += "/f";
    many += "9 1 0:30 / " + deep + " rw - " + (i % 2 == 0 ? "fuse" : "tmpfs") + " x rw\n";
  }
  // Of the processor, so that a loaded machine doesn't count. It is minutes if each looks at all others.
  const std::clock_t begun = std::clock();
  CHECK(parse_mountinfo(many).back().served);
  CHECK(std::clock() - begun < 15 * CLOCKS_PER_SEC);
  return tap::done();
}
