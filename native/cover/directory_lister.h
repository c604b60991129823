// Reads directories that a container controls, on threads that may wait without end.
//
// Owns: these threads, and what was asked of them. Opening a directory to read it asks
// each permission group with a mark there, and so does reading it. A container with
// CAP_SYS_ADMIN can have a group of its own that never answers. The kernel waits for
// the answer; only the end of the process ends that wait.
//
// A thread that waits costs the container whose guard the directory is of: only so many
// of its directories are read at once, and one of each of its superblocks. Others have
// other threads. Thread-safe. Nobody waits for a thread at the end.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "os/unique_fd.h"
#include "policy/policy.h"

namespace janus {

class DirectoryLister {
 public:
  // How long a directory may take. One that takes longer is given up. Its thread
  // still counts, until the kernel lets it go.
  static constexpr std::chrono::nanoseconds kPatience = std::chrono::seconds(5);

  // Threads that may read, or wait, at once: in all, and for one container.
  static constexpr std::size_t kThreads = 128;
  static constexpr std::size_t kThreadsOfOne = 4;

  // Whose guard the directory is of, and where the directory is.
  struct Whose {
    std::uint64_t container = 0;
    Device device = 0;
    auto operator<=>(const Whose&) const = default;
  };

  struct State;

  // A directory that is read, a part at a time. One reader's.
  class Listing {
   public:
    // O_PATH of the directory.
    int directory() const { return directory_.get(); }

    struct Entry {
      const char* name;
      unsigned char type;  // DT_DIR, ...; DT_UNKNOWN where the file system doesn't say
    };
    // Of the part that was read last: the next entry. Nothing: there is none; is_read() says
    // whether there is another part.
    std::optional<Entry> next_entry();
    // The same, of entries that are no symlinks. Null: there is none.
    const char* next();
    bool is_read() const { return ended_; }
    // Why it could not be read; 0: it could.
    int error() const { return error_; }

   private:
    friend class DirectoryLister;
    friend struct State;

    Listing(Whose whose, UniqueFd directory) : whose_(whose), directory_(std::move(directory)) {}
    void read_part();  // on a thread of the lister

    const Whose whose_;
    const UniqueFd directory_;
    UniqueFd readable_;
    std::vector<char> part_;
    std::size_t filled_ = 0, at_ = 0;
    bool ended_ = false;
    int error_ = 0;
    // The rest is the lister's, under its lock.
    bool asked_ = false;  // a part was asked for, and not yet taken
    bool done_ = false;   // it is there
    std::uint64_t since_ns_ = 0;
  };

  // `done`: a part was read, or a thread is free again. Called on any thread.
  explicit DirectoryLister(std::function<void()> done, std::chrono::nanoseconds patience = kPatience);
  ~DirectoryLister();
  DirectoryLister(const DirectoryLister&) = delete;
  DirectoryLister& operator=(const DirectoryLister&) = delete;

  std::shared_ptr<Listing> list(Whose whose, UniqueFd directory) const;

  // `read`: the part is there. `waits`: ask again later. `stuck`: it, or another of the
  // container's on this superblock, has taken longer than anyone waits for.
  enum class Part { read, waits, stuck };
  // Asks for the next part, or looks whether it is there.
  Part part(const std::shared_ptr<Listing>& listing);
  // Waits until the part is there that was asked for. False: not by then.
  bool wait(const Listing& listing, std::uint64_t until_ns);

  // Directories that have taken longer than anyone waits for.
  std::size_t stuck() const;

 private:
  const std::shared_ptr<State> state_;  // the threads' too
};

}  // namespace janus
