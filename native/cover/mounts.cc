#include "cover/mounts.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <iterator>
#include <unordered_set>

#include "os/error.h"

namespace janus {
namespace {

constexpr std::size_t kReadAtOnce = 64 * 1024;

// The kernel writes space, tab, newline and backslash as \ooo.
std::string unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out == "/" ? std::string() : out;
}

std::uint32_t number(std::string_view text) {
  std::uint32_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// The order in which what is below a path follows right after it.
bool before(std::string_view a, std::string_view b) {
  const auto rank = [](char byte) { return byte == '/' ? 0 : static_cast<int>(static_cast<unsigned char>(byte)); };
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                      [&](char x, char y) { return rank(x) < rank(y); });
}

// Sorted, since a container chooses how many there are, and how deep.
void find_served(std::vector<Mount>& mounts) {
  const MountPoints points = served_points(mounts);
  std::vector<std::string_view> sorted;
  for (const auto& [point, type] : points) sorted.push_back(point);
  std::sort(sorted.begin(), sorted.end(), before);
  std::vector<std::string_view> tops;  // none of them below another
  for (const std::string_view point : sorted)
    if (tops.empty() || !is_below(point, tops.back())) tops.push_back(point);
  for (Mount& mount : mounts) {
    const auto after = std::upper_bound(tops.begin(), tops.end(), std::string_view(mount.point), before);
    mount.served = after != tops.begin() && is_below(mount.point, *std::prev(after));
  }
}

}  // namespace

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  while (!text.empty()) {
    const auto newline = text.find('\n');
    std::string_view line = text.substr(0, newline);
    text.remove_prefix(newline == std::string_view::npos ? text.size() : newline + 1);
    std::vector<std::string_view> fields;
    while (!line.empty()) {
      const auto space = line.find(' ');
      fields.push_back(line.substr(0, space));
      line.remove_prefix(space == std::string_view::npos ? line.size() : space + 1);
    }
    const auto separator = std::find(fields.begin(), fields.end(), std::string_view("-"));
    if (fields.size() < 6 || separator == fields.end() || separator + 1 == fields.end()) continue;
    const auto colon = fields[2].find(':');
    if (colon == std::string_view::npos) continue;
    mounts.push_back({.id = number(fields[0]),
                      .device = number(fields[2].substr(0, colon)) << 20 | number(fields[2].substr(colon + 1)),
                      .root = unescape(fields[3]),
                      .point = unescape(fields[4]),
                      .type = std::string(*(separator + 1))});
  }
  // Of several on one point, the last is seen. One pass: a container chooses how many there are.
  std::unordered_set<std::string_view> points;
  for (auto mount = mounts.rbegin(); mount != mounts.rend(); ++mount) mount->visible = points.insert(mount->point).second;
  find_served(mounts);
  return mounts;
}

MountPoints served_points(const std::vector<Mount>& mounts) {
  MountPoints points;
  for (const Mount& mount : mounts)
    if (!is_local_file_system(mount.type) && !is_kernel_file_system(mount.type)) points.emplace(mount.point, mount.type);
  return points;
}

MountList mounts_of(const ProcessDir& process, std::size_t most) {
  const UniqueFd file = process.open("mountinfo", O_RDONLY);
  std::string text;
  std::size_t lines = 0, lines_end = 0;
  for (std::size_t size = 0;; text.resize(size)) {
    text.resize(size + kReadAtOnce);
    const ssize_t got = read(file.get(), text.data() + size, kReadAtOnce);
    if (got < 0 && errno != EINTR) throw Error::system(errno, "read", "mountinfo of " + std::to_string(process.pid()));
    if (got == 0) {
      text.resize(size);
      return {parse_mountinfo(text), true};
    }
    if (got < 0) continue;
    for (const std::size_t end = size + static_cast<std::size_t>(got); size < end; ++size) {
      if (text[size] != '\n') continue;
      if (++lines > most) return {parse_mountinfo(std::string_view(text).substr(0, lines_end)), false};
      lines_end = size + 1;
    }
  }
}

bool is_kernel_file_system(std::string_view type) {
  static constexpr std::array<std::string_view, 17> types = {
      "proc",       "sysfs",   "cgroup", "cgroup2",  "devpts",     "mqueue",  "securityfs", "debugfs", "tracefs",
      "bpf",        "pstore",  "configfs", "fusectl", "binfmt_misc", "efivarfs", "nsfs",     "selinuxfs"};
  return std::find(types.begin(), types.end(), type) != types.end();
}

bool is_local_file_system(std::string_view type) {
  static constexpr std::array<std::string_view, 33> types = {
      "ext2",   "ext3",    "ext4",  "xfs",    "btrfs",    "bcachefs", "f2fs",      "zfs",   "jfs",     "reiserfs", "nilfs2",
      "ntfs3",  "hfs",     "hfsplus", "ufs",  "minix",    "udf",      "iso9660",   "vfat",  "msdos",   "exfat",    "squashfs",
      "erofs",  "cramfs",  "romfs", "ubifs",  "jffs2",    "tmpfs",    "ramfs",     "rootfs", "devtmpfs", "overlay",
      "hugetlbfs"};
  return std::find(types.begin(), types.end(), type) != types.end();
}

}  // namespace janus
