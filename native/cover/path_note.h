// What is worth telling people about where a guarded path leads: a typo leads
// nowhere, and a link to a multi-call program leads to all of it.
//
// Owns: nothing. Nothing is decided by what it says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "os/path_resolver.h"

namespace janus {

struct PathNote {
  std::uint32_t subject = 0;  // id
  std::string path;           // as the subject has it
  bool missing = false;       // nothing is there
  std::string program;        // the program that it is; "" if it is none
  std::uint32_t names = 0;    // of that program, on its file system
  std::string fault;          // why it is not guarded now; "" if it is
};

// Of a path that was just resolved, in the container's first process's mount
// namespace. Empty: there is nothing to tell, which is so for a program under
// its own and only name.
std::optional<PathNote> note_of(std::uint32_t subject, const std::string& path, const Resolved& resolved);

}  // namespace janus
