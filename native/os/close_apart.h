// Closes descriptors whose release may wait without end, in a process of its own.
//
// Owns: nothing that stays. The release of a fanotify or inotify group waits until nobody
// pins its marks. Whoever waits for an answer of another group pins them, if that is asked
// first: a container's group that never answers. Such a wait can't even be killed.
#pragma once

#include <span>

namespace janus {

// The numbers stay taken: other threads that use them get EINVAL. What is released, the
// highest first, is released when this returns, or later if that takes long. `fds` is in
// ascending order.
void close_apart(std::span<const int> fds);

}  // namespace janus
