// What a guard is, as it comes from JavaScript: see NativeGuard in src/native.ts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace janus {

// Of all containers of a guard.
struct SubjectPolicy {
  std::vector<std::string> allow, deny, watch, exclude;
  std::uint32_t events = 0;
  std::uint32_t max_depth = 0;
  bool only_dir = false, auto_allow_owner = false, audit = false, recursive = false, only_container = false, exact = false;
  bool enforced = true;  // of its guard: its denials are answered so, or only recorded
};

// ... on one of them.
struct SubjectSpec {
  std::uint32_t id = 0;
  std::string container_id;
  std::shared_ptr<const SubjectPolicy> policy;
};

struct GuardSpec {
  std::uint32_t key = 0;
  std::vector<SubjectSpec> subjects;
  bool partial = false;  // a path that cannot be guarded now costs itself only
};

}  // namespace janus
