// What libbpf says, which is what an error message needs.
//
// Owns: libbpf's print callback, for the whole process. The text is the calling
// thread's own.
#pragma once

#include <string>

#include "os/error.h"

namespace janus {

// Forgets what was said, and listens from now on.
void listen_to_libbpf();

// An Error(unsupported) from errno and libbpf's last words.
Error refused_by_libbpf(const std::string& what, const std::string& object);

}  // namespace janus
