// Takes apart what the eBPF programs write: records of processes, as bytes.
//
// Owns: nothing. Pure. What is not there as a whole is not visited, and a record
// whose lengths contradict each other is skipped: nothing is read beyond the bytes.
#pragma once

#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "bpf/event.h"

namespace janus {

// A cgroup of a process. Its path is "/a/b/c"; very deep ones lack their end.
struct TaskCgroup {
  const janus_iter_cgroup* raw;  // `levels` is never more than JANUS_CGROUP_LEVELS
  std::string_view path;
};
// Cgroups are v2's first; see janus_iter_record. All of it is valid during the call only.
using TaskVisitor = std::function<void(const janus_iter_record&, std::span<const TaskCgroup> cgroups, std::string_view exe)>;

// Visits each process of iter/task that is there as a whole; returns what is left.
std::string_view visit_tasks(std::string_view bytes, const TaskVisitor& visit);

// The same of the iterator over threads.
template <typename Visit>
std::string_view visit_threads(std::string_view bytes, Visit visit) {
  for (janus_thread thread; bytes.size() >= sizeof(thread); bytes.remove_prefix(sizeof(thread))) {
    std::memcpy(&thread, bytes.data(), sizeof(thread));
    visit(thread);
  }
  return bytes;
}

// What follows a record of the ring. `argv0`: of an exec; empty where it is not known.
struct RecordTexts {
  std::string_view exe, argv0;
};

// A record of the ring, which is aligned there.
std::optional<std::pair<const janus_record*, RecordTexts>> record_of(const void* data, std::size_t size);

// A denial by the kernel itself.
struct KernelDenial {
  const janus_denial* raw;
  // As the superblock names it, or its end (`raw->cut`); by what path the actor asked, empty: not known; of a
  // rename the other name, empty: not known.
  std::string_view path, asked, other;
};
std::optional<KernelDenial> denial_of(const void* data, std::size_t size);

}  // namespace janus
