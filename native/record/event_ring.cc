#include "record/event_ring.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace janus {

EventRing::EventRing(std::size_t bytes)
    : capacity_(std::bit_ceil(std::max<std::size_t>(bytes, 65536))),
      bytes_(std::make_unique_for_overwrite<std::uint8_t[]>(capacity_)) {}

bool EventRing::push(FileEvent header, std::string_view path, std::string_view exe, std::string_view ancestry,
                     std::span<const std::uint32_t> deniers) {
  constexpr std::size_t most = std::numeric_limits<std::uint16_t>::max();
  path = path.substr(0, most);
  exe = exe.substr(0, most);
  ancestry = ancestry.substr(0, most);
  deniers = deniers.first(std::min(deniers.size(), kDeniers));
  const std::size_t strings = path.size() + exe.size() + ancestry.size();
  const std::size_t size = (sizeof(FileEvent) + strings + deniers.size_bytes() + 7) & ~std::size_t{7};
  const std::lock_guard lock(mutex_);
  header.seq = ++seq_;
  if (capacity_ - (tail_ - head_) < size) {
    ++dropped_;
    return false;
  }
  header.size = static_cast<std::uint32_t>(size);
  header.path_len = static_cast<std::uint16_t>(path.size());
  header.exe_len = static_cast<std::uint16_t>(exe.size());
  header.ancestry_len = static_cast<std::uint16_t>(ancestry.size());
  header.deniers = static_cast<std::uint16_t>(deniers.size());
  const bool was_empty = head_ == tail_;
  copy_in(tail_, &header, sizeof(header));
  copy_in(tail_ + sizeof(header), path.data(), path.size());
  copy_in(tail_ + sizeof(header) + path.size(), exe.data(), exe.size());
  copy_in(tail_ + sizeof(header) + path.size() + exe.size(), ancestry.data(), ancestry.size());
  if (!deniers.empty()) copy_in(tail_ + sizeof(header) + strings, deniers.data(), deniers.size_bytes());
  tail_ += size;
  ++written_;
  return was_empty;
}

std::size_t EventRing::drain(std::span<std::uint8_t> into) {
  const std::lock_guard lock(mutex_);
  std::size_t done = 0;
  while (head_ != tail_) {
    std::uint32_t size = 0;
    copy_out(head_, &size, sizeof(size));
    if (into.size() - done < size) break;
    copy_out(head_, into.data() + done, size);
    head_ += size;
    done += size;
  }
  return done;
}

std::size_t EventRing::used() const {
  const std::lock_guard lock(mutex_);
  return tail_ - head_;
}

std::uint64_t EventRing::written() const {
  const std::lock_guard lock(mutex_);
  return written_;
}

std::uint64_t EventRing::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

void EventRing::copy_in(std::uint64_t at, const void* from, std::size_t size) {
  const std::size_t off = at & (capacity_ - 1);
  const std::size_t first = std::min(size, capacity_ - off);
  std::memcpy(bytes_.get() + off, from, first);
  std::memcpy(bytes_.get(), static_cast<const std::uint8_t*>(from) + first, size - first);
}

void EventRing::copy_out(std::uint64_t at, void* to, std::size_t size) const {
  const std::size_t off = at & (capacity_ - 1);
  const std::size_t first = std::min(size, capacity_ - off);
  std::memcpy(to, bytes_.get() + off, first);
  std::memcpy(static_cast<std::uint8_t*>(to) + first, bytes_.get(), size - first);
}

}  // namespace janus
