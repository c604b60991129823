#include "ebpf/record_stream.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace janus {
namespace {

// Takes a struct off the front; false if it isn't there as a whole.
template <typename T>
bool take(std::string_view& from, T& into) {
  if (from.size() < sizeof(T)) return false;
  std::memcpy(&into, from.data(), sizeof(T));
  from.remove_prefix(sizeof(T));
  return true;
}

bool take(std::string_view& from, std::size_t bytes, std::string_view& into) {
  if (from.size() < bytes) return false;
  into = from.substr(0, bytes);
  from.remove_prefix(bytes);
  return true;
}

}  // namespace

std::string_view visit_tasks(std::string_view bytes, const TaskVisitor& visit) {
  for (;;) {
    std::string_view rest = bytes;
    janus_iter_record record;
    std::string_view exe;
    if (!take(rest, record) || !take(rest, record.exe_len, exe)) return bytes;
    std::array<janus_iter_cgroup, JANUS_TASK_CGROUPS> raw;
    std::array<TaskCgroup, JANUS_TASK_CGROUPS> cgroups;
    const std::size_t count = std::min<std::size_t>(record.cgroups, JANUS_TASK_CGROUPS);
    for (std::size_t i = 0; i < count; ++i) {
      cgroups[i].raw = &raw[i];
      if (!take(rest, raw[i]) || !take(rest, raw[i].path_len, cgroups[i].path)) return bytes;
      raw[i].levels = std::min<__u32>(raw[i].levels, JANUS_CGROUP_LEVELS);
    }
    visit(record, {cgroups.data(), count}, exe);
    bytes = rest;
  }
}

std::optional<std::pair<const janus_record*, RecordTexts>> record_of(const void* data, std::size_t size) {
  const auto* record = static_cast<const janus_record*>(data);
  if (size < offsetof(janus_record, text)) return std::nullopt;
  std::string_view rest(record->text, size - offsetof(janus_record, text));
  RecordTexts texts;
  if (!take(rest, record->exe_len, texts.exe) || !take(rest, record->argv0_len, texts.argv0)) return std::nullopt;
  return std::pair(record, texts);
}

std::optional<KernelDenial> denial_of(const void* data, std::size_t size) {
  const auto* raw = static_cast<const janus_denial*>(data);
  if (size < sizeof(*raw)) return std::nullopt;
  std::string_view rest(static_cast<const char*>(data) + sizeof(*raw), size - sizeof(*raw));
  KernelDenial denial{.raw = raw, .path = {}, .asked = {}, .other = {}};
  if (!take(rest, raw->path_len, denial.path) || !take(rest, raw->asked_len, denial.asked) ||
      !take(rest, raw->other_len, denial.other))
    return std::nullopt;
  return denial;
}

}  // namespace janus
