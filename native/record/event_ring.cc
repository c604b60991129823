#include "record/event_ring.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

namespace janus {

EventRing::EventRing(std::size_t bytes)
    : capacity_(std::bit_ceil(std::max<std::size_t>(bytes, 65536))),
      bytes_(std::make_unique_for_overwrite<std::uint8_t[]>(capacity_)) {}

bool EventRing::push(FileEvent header, const FileEventTexts& texts, std::span<const std::uint32_t> deniers) {
  std::array<std::string_view, 6> parts = {texts.path, texts.exe, texts.ancestry, texts.asked, texts.argv0, texts.other};
  std::size_t strings = 0;
  for (std::string_view& part : parts) {
    part = part.substr(0, std::numeric_limits<std::uint16_t>::max());
    strings += part.size();
  }
  deniers = deniers.first(std::min(deniers.size(), kDeniers));
  const std::size_t size = (sizeof(FileEvent) + strings + deniers.size_bytes() + 7) & ~std::size_t{7};
  const std::lock_guard lock(mutex_);
  header.seq = ++seq_;
  if (capacity_ - (tail_ - head_) < size) {
    ++dropped_;
    return false;
  }
  header.size = static_cast<std::uint32_t>(size);
  header.path_len = static_cast<std::uint16_t>(parts[0].size());
  header.exe_len = static_cast<std::uint16_t>(parts[1].size());
  header.ancestry_len = static_cast<std::uint16_t>(parts[2].size());
  header.asked_len = static_cast<std::uint16_t>(parts[3].size());
  header.argv0_len = static_cast<std::uint16_t>(parts[4].size());
  header.other_len = static_cast<std::uint16_t>(parts[5].size());
  header.deniers = static_cast<std::uint16_t>(deniers.size());
  const bool was_empty = head_ == tail_;
  copy_in(tail_, &header, sizeof(header));
  std::uint64_t at = tail_ + sizeof(header);
  for (const std::string_view part : parts) {
    if (part.empty()) continue;  // it may be no memory at all, which memcpy(3) must not be given
    copy_in(at, part.data(), part.size());
    at += part.size();
  }
  if (!deniers.empty()) copy_in(at, deniers.data(), deniers.size_bytes());
  tail_ += size;
  ++written_;
  return was_empty;
}

void EventRing::lose(std::uint64_t records) {
  const std::lock_guard lock(mutex_);
  seq_ += records;
  dropped_ += records;
}

std::size_t EventRing::drain(std::span<std::uint8_t> into) {
  std::size_t done = 0;
  std::unique_lock lock(mutex_);
  while (head_ != tail_) {
    const std::uint64_t begin = head_, end = tail_;
    lock.unlock();
    const std::size_t copied = copy_records(begin, end, into.subspan(done));
    lock.lock();
    head_ += copied;
    done += copied;
    if (begin + copied != end) break;  // no room for more
  }
  return done;
}

// Without the lock: nobody writes over what is not read yet. The reader is JavaScript's thread, which others may
// keep from the processor at any moment; the gate must not wait for it.
std::size_t EventRing::copy_records(std::uint64_t begin, std::uint64_t end, std::span<std::uint8_t> into) const {
  std::size_t done = 0;
  while (begin + done != end) {
    std::uint32_t size = 0;
    copy_out(begin + done, &size, sizeof(size));
    if (into.size() - done < size) break;
    copy_out(begin + done, into.data() + done, size);
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
