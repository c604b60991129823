// The processes of guarded containers: those that live, and those that ended
// while events of theirs may still be unread.
//
// Owns: the table. Not thread-safe. Knows neither eBPF nor the kernel: the
// tracker feeds it. A process is its number and its start, always: numbers are
// used again.
#pragma once

#include <compare>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace janus {

// Levels of ancestry that are kept.
inline constexpr std::size_t kAncestors = 16;

struct ProcessKey {
  std::uint32_t tgid = 0;
  std::uint64_t start_ns = 0;  // CLOCK_BOOTTIME
  auto operator<=>(const ProcessKey&) const = default;
};

class ProcessTable {
 public:
  // What a process looks like now, or looked like last; shared with those that
  // descend from it, which may outlive it.
  struct Image {
    ProcessKey key;
    std::string comm;
    std::string exe;
  };
  struct Process {
    std::uint64_t container = 0;
    std::uint32_t ppid = 0;
    std::uint32_t uid = 0;
    std::uint32_t flags = 0;  // janus_task_flag
    ProcessKey forker;
    std::shared_ptr<Image> image;
    std::string argv0;  // of its last exec that was seen, or its forker's
    // Who forked it, who forked that, ...: as far as they are the container's.
    std::vector<std::shared_ptr<const Image>> ancestors;
    bool cut = false;            // there are more ancestors than are kept
    std::uint64_t ended_ns = 0;  // CLOCK_BOOTTIME; 0: it lives
  };
  // What is told of a process each time; an empty `exe` leaves what is known, and so
  // does no `argv0`, unless it runs something else by now.
  struct News {
    std::uint64_t container = 0;
    ProcessKey forker;
    std::uint32_t ppid = 0;
    std::uint32_t uid = 0;
    std::uint32_t flags = 0;
    std::string comm;
    std::string exe;
    std::optional<std::string> argv0;  // of an exec
  };

  // `past_limit`: ended processes that are kept at most.
  explicit ProcessTable(std::size_t past_limit = 65536) : past_limit_(past_limit) {}

  // Adds or updates a living process. Another of the same number that is still
  // in the table has ended unseen: it is ended now. Returns the containers that
  // lost their last process by this.
  std::vector<std::uint64_t> put(const ProcessKey& key, const News& news, std::uint64_t now_ns);
  // It ended. Returns its container if this was the last process of it.
  // Nothing happens if it isn't known, or has ended.
  std::optional<std::uint64_t> end(const ProcessKey& key, const News& last, std::uint64_t now_ns);
  std::optional<std::uint64_t> end(const ProcessKey& key, std::uint64_t now_ns);
  // Ends all of its processes.
  void end_container(std::uint64_t container, std::uint64_t now_ns);
  // Its processes live on, and are nothing to us any more: put() takes them in again.
  void forget_container(std::uint64_t container);
  // Finds ancestors that became known after their descendants.
  void relink(std::uint64_t container);
  // All events that happened before `read_ns` have been read.
  void settle(std::uint64_t read_ns);

  const Process* find(const ProcessKey& key) const;
  // The living process of that number.
  const Process* living(std::uint32_t tgid) const;

  // Who raised an event that was read at `read_ns`, and happened after
  // `since_ns` (CLOCK_BOOTTIME). `alive`: the process was not reaped when it
  // was read. If several may have, it is none of them, in particular; but if
  // they are all of one container, that is known.
  struct Match {
    const Process* process = nullptr;
    std::uint64_t container = 0;
  };
  Match actor(std::uint32_t tgid, std::uint64_t since_ns, std::uint64_t read_ns, bool alive) const;

  // The living ones of a container.
  const std::set<ProcessKey>& of(std::uint64_t container) const;
  std::vector<ProcessKey> living() const;
  std::size_t living_count() const { return table_.size() - past_.size(); }
  std::size_t past_count() const { return past_.size(); }
  // Ended processes that were forgotten while events of theirs may be unread.
  std::uint64_t forgotten() const { return forgotten_; }

 private:
  using Table = std::map<ProcessKey, Process>;

  std::optional<std::uint64_t> leave(std::uint64_t container, const ProcessKey& key);
  void link(Process& process) const;
  std::string argv0_of(const Process& process, const News& news, bool added) const;

  const std::size_t past_limit_;
  Table table_;
  std::deque<ProcessKey> past_;  // in the order in which they ended
  std::unordered_map<std::uint64_t, std::set<ProcessKey>> living_;  // by container
  std::uint64_t forgotten_ = 0;
};

}  // namespace janus
