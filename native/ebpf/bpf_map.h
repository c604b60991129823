// A map that user space writes to, by what its keys and values are.
//
// Owns: how many entries found no room; not the map. Any thread, once it is open.
#pragma once

#include <bpf/bpf.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "record/stats.h"

namespace janus {

template <typename Key, typename Value>
class BpfMap {
 public:
  // Until then all is taken, and nothing is there. -1: it is there no more.
  void open(int fd, std::size_t capacity) {
    fd_ = fd;
    capacity_ = capacity;
  }
  std::size_t capacity() const { return capacity_; }

  // Adds or replaces. False: there is no room.
  bool set(const Key& key, const Value& value) {
    if (fd_ < 0 || bpf_map_update_elem(fd_, &key, &value, BPF_ANY) == 0) return true;
    full_.add();
    return false;
  }
  void remove(const Key& key) {
    if (fd_ >= 0) bpf_map_delete_elem(fd_, &key);
  }
  std::optional<Value> get(const Key& key) const {
    Value value{};
    return fd_ >= 0 && bpf_map_lookup_elem(fd_, &key, &value) == 0 ? std::optional(value) : std::nullopt;
  }
  std::uint64_t full() const { return full_.get(); }

 private:
  int fd_ = -1;
  std::size_t capacity_ = 0;
  Counter full_;
};

}  // namespace janus
