// A heartbeat that another process can look at.
//
// Owns: the shared memory. It may be written by several threads: the last beat
// of any of them counts.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include "os/clock.h"
#include "os/error.h"
#include "os/unique_fd.h"

namespace janus {

class SharedBeat {
 public:
  // Of CLOCK_MONOTONIC, in nanoseconds.
  using Word = std::atomic<std::uint64_t>;
  static_assert(Word::is_always_lock_free);

  // What stands there while nobody has to beat: before the first, and after rest().
  static constexpr std::uint64_t kRests = UINT64_MAX;

  // Throws Error(system).
  SharedBeat() : fd_(memfd_create("janusd heartbeat", MFD_CLOEXEC)) {
    if (!fd_ || ftruncate(fd_.get(), sizeof(Word)) != 0) throw Error::system(errno, "memfd_create", "heartbeat");
    at_ = map(fd_.get());
    if (at_ == nullptr) throw Error::system(errno, "mmap", "heartbeat");
    rest();
  }
  ~SharedBeat() { munmap(at_, sizeof(Word)); }
  SharedBeat(const SharedBeat&) = delete;
  SharedBeat& operator=(const SharedBeat&) = delete;

  int fd() const { return fd_.get(); }
  void beat(std::uint64_t now_ns) { at_->store(now_ns, std::memory_order_relaxed); }
  void rest() { beat(kRests); }

  // Of such a descriptor, in whichever process. nullptr: errno says why.
  static Word* map(int fd) {
    void* mapped = mmap(nullptr, sizeof(Word), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return mapped == MAP_FAILED ? nullptr : static_cast<Word*>(mapped);
  }

 private:
  const UniqueFd fd_;
  Word* at_ = nullptr;
};

}  // namespace janus
