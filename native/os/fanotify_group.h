// One fanotify group: its descriptor, marks, events and answers.
//
// Owns: the descriptor. Must not decide and must not know paths' meaning.
// Thread-safe as the kernel's interface is.
//
// The daemon has seven, whatever the number of guards (max_user_groups is 128):
//   gate      permission: superblock and mount marks, and learned ignore marks
//   identity  permission: inode marks on what is guarded, never an ignore mark
//   observer  notification: what is only seen, and learned ignore marks
//   moves     notification: renames of directories that carry an ignore mark
//   names     notification: changes in directories that a guarded path goes through
//   trees     notification: what appears in guarded directories
//   dirents   notification: entries and attributes that are only seen
// The queues of the notification groups are bounded. Containers fill them; they are
// memory of the node, and keep what is deleted while it is in them. Whoever drains
// one takes an overflow for a change of everything. Only that of `dirents` is not,
// since the kernel doesn't say how many events it dropped: DirentObserver takes them
// over at once, into a bounded queue of its own, which counts what it drops.
// Two permission groups, since an ignore mark on a directory silences its
// children for every mark of the same group: a hard link or a file moved out of
// a guarded place into an ignored directory would be silent. `identity` cannot
// be silenced, so the inode that was there stays guarded wherever it goes.
//
// The order in which groups end matters. Who waits in a permission group pins
// the marks of every group on the same object that the kernel asks later
// (fsnotify_prepare_user_wait()), and the release of a group waits for its pins.
// So `identity`, which is asked first, has to be released first, then `gate`,
// whose release answers whoever waits, then the rest. A process that ends
// releases the highest descriptor first. The permission groups therefore have
// descriptors above those of all others, which are made before them. An inotify
// instance is a group to the kernel like any other.
// A container's own group may be asked first, and never answer. Then the release waits for
// that container, so a process of its own does it: see close_apart().
#pragma once

#include <sys/fanotify.h>

#include <cstdint>
#include <span>
#include <string>

#include "os/unique_fd.h"

// Newer than Debian 12's glibc headers; values from include/uapi/linux/fanotify.h.
#ifndef FAN_MARK_EVICTABLE
#define FAN_MARK_EVICTABLE 0x00000200  // Linux 5.19
#endif
#ifndef FAN_MARK_IGNORE
#define FAN_MARK_IGNORE 0x00000400  // Linux 6.0
#endif

namespace janus {

inline constexpr std::uint64_t kPermissionMask = FAN_OPEN_PERM | FAN_ACCESS_PERM | FAN_OPEN_EXEC_PERM;

class FanotifyGroup {
 public:
  // Throws Error with errno; EPERM, ENOSYS and EINVAL tell what is missing. The
  // descriptor of a permission group is higher than `above`.
  FanotifyGroup(const char* name, unsigned flags, unsigned event_flags, int above = -1);

  int fd() const { return fd_.get(); }
  const char* name() const { return name_; }

  // Returns 0 or errno. `at` is an O_PATH descriptor of the object itself.
  int try_mark(unsigned flags, std::uint64_t mask, int at) const;
  // The same, throwing.
  void mark(unsigned flags, std::uint64_t mask, int at, const std::string& target) const;
  // Drops all marks: nobody is asked any more. Waits for nobody.
  void forget_all() const;
  // Forgets all inode marks.
  void flush_inode_marks() const;

  // Bytes read; 0 when there is nothing (or when the kernel could not hand over
  // an event, which it has then answered itself: `unreadable` says so).
  std::size_t read(std::span<char> into, bool& unreadable) const;

  // Fails only if the event is answered already or the group is gone.
  void respond(int event_fd, bool allow, bool audit) const;

  // Ends the group: the kernel allows whatever waits, and asks no more. The
  // descriptor's number stays taken, so other threads may go on using it: they
  // get EINVAL. Errors are not possible with a descriptor of ours. A thread that
  // is in read() meanwhile keeps the group, but not its marks.
  void release() const;

 private:
  const char* const name_;
  UniqueFd fd_;
};

// Members are in the order in which they are made: they end in the reverse one.
struct Groups {
  // Throws; `audit` asks for FAN_ENABLE_AUDIT on the permission groups.
  explicit Groups(bool audit);
  ~Groups();
  Groups(const Groups&) = delete;
  Groups& operator=(const Groups&) = delete;

  // Ends the groups that anybody can wait for, in the order that lets all go.
  void release_permission() const;

  // Of those that nobody waits for.
  int highest_notification() const;

  FanotifyGroup observer;
  FanotifyGroup moves;
  FanotifyGroup names;
  UniqueFd names_inotify;  // does what `names` cannot, where there are no file handles
  FanotifyGroup trees;
  FanotifyGroup dirents;
  FanotifyGroup gate;
  FanotifyGroup identity;
};

}  // namespace janus
