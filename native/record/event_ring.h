// The bounded queue of event records between the native threads and JavaScript.
//
// Owns: the bytes. Many threads push, one drains. A full ring drops the new
// record and counts it; the sequence number goes on, so the reader sees a gap.
// Who pushes waits at most until another has copied one record in, and never for the reader.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>

#include "record/file_event.h"

namespace janus {

class EventRing {
 public:
  // `bytes` is rounded up to a power of two.
  explicit EventRing(std::size_t bytes);

  // Fills in size, lengths and sequence number. Returns true if the ring was
  // empty before: the reader has to be woken.
  bool push(FileEvent header, const FileEventTexts& texts, std::span<const std::uint32_t> deniers);

  // So many records could not be made at all: they are as those that found no room.
  void lose(std::uint64_t records);

  // Whole records only; returns the bytes copied. By one thread at a time.
  std::size_t drain(std::span<std::uint8_t> into);

  std::size_t capacity() const { return capacity_; }
  std::size_t used() const;
  std::uint64_t written() const;
  std::uint64_t dropped() const;

 private:
  std::size_t copy_records(std::uint64_t begin, std::uint64_t end, std::span<std::uint8_t> into) const;
  void copy_in(std::uint64_t at, const void* from, std::size_t size);
  void copy_out(std::uint64_t at, void* to, std::size_t size) const;

  const std::size_t capacity_;
  const std::unique_ptr<std::uint8_t[]> bytes_;
  mutable std::mutex mutex_;
  std::uint64_t head_ = 0;  // next byte to read; both only grow
  std::uint64_t tail_ = 0;  // next byte to write
  std::uint64_t seq_ = 0;
  std::uint64_t written_ = 0;
  std::uint64_t dropped_ = 0;
};

}  // namespace janus
