// A reserve of descriptors for those who answer.
//
// Owns: the bound. The kernel needs a descriptor of ours for each question, and
// where there is none it denies, whoever asks. So what a request or a container
// makes us hold ends some way below the limit.
#pragma once

#include <cstddef>
#include <string>

#include "os/unique_fd.h"

namespace janus {

// How many this process may have.
std::size_t descriptor_limit();

// How many belong to it: 2,048, or an eighth of a smaller RLIMIT_NOFILE.
std::size_t descriptor_reserve();

// The same descriptor, or Error(exhausted) if it belongs to the reserve. The
// kernel gives the lowest free number: if that is high, all below are in use.
UniqueFd outside_reserve(UniqueFd fd, const std::string& what);

// Whether the descriptor is one of the reserve.
bool in_reserve(int fd);

}  // namespace janus
