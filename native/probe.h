// What this kernel lets us do, found out by trying.
//
// Owns: nothing; leaves nothing behind. Never throws.
#pragma once

#include <string>
#include <vector>

namespace janus {

struct Probe {
  std::string kernel;
  bool root = false;
  bool btf = false;
  bool permission_events = false;
  bool directory_ignore_marks = false;
  bool audit = false;
  bool fid_marks = false;
  std::vector<std::string> missing;  // a line each, of what the daemon cannot do without
};

Probe probe_kernel();

}  // namespace janus
