#include "cover/canary.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "os/error.h"

namespace janus {
namespace {

constexpr const char* kFile = "denied";

// A mount that is attached nowhere ends with its last descriptor (fsmount(2)).
UniqueFd private_file_system() {
  const UniqueFd context(static_cast<int>(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)));
  if (!context) throw Error::system(errno, "fsopen", "tmpfs");
  for (const auto& [key, value] : {std::pair{"size", "4096"}, std::pair{"nr_inodes", "2"}})
    if (syscall(SYS_fsconfig, context.get(), FSCONFIG_SET_STRING, key, value, 0) != 0) throw Error::system(errno, "fsconfig", key);
  if (syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) throw Error::system(errno, "fsconfig", "tmpfs");
  UniqueFd root(static_cast<int>(syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, 0)));
  if (!root) throw Error::system(errno, "fsmount", "tmpfs");
  return root;
}

std::shared_ptr<const Superblock> rules() {
  auto subject = std::make_shared<Subject>();
  subject->id = kCanarySubject;
  subject->events = mask_of(FileEventKind::open);
  subject->stats = std::make_shared<SubjectStats>();
  auto entry = std::make_shared<Entry>();
  entry->path = std::string("/") + kFile;
  entry->subject = std::move(subject);
  auto superblock = std::make_shared<Superblock>();
  superblock->table = std::make_shared<SuperblockPolicy>(RuleTable{{std::move(entry)}}, std::vector<View>{});
  superblock->shared = true;
  // No deny_mask: it is asked about by the superblock's mark alone, each time.
  return superblock;
}

}  // namespace

Canary::Canary(const FanotifyGroup& gate, PolicyBox& policy) : root_(private_file_system()) {
  if (mknodat(root_.get(), kFile, S_IFREG | 0400, 0) != 0) throw Error::system(errno, "mknodat", kFile);
  struct stat status {};
  fstat(root_.get(), &status);
  auto first = std::make_shared<Policy>(*policy.get());
  first->superblocks[major(status.st_dev) << 20 | minor(status.st_dev)] = rules();
  policy.publish(std::move(first));
  gate.mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN_PERM, root_.get(), "the canary's file system");
}

}  // namespace janus
