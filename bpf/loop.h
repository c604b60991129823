// What a loop of bpf_loop() carries from one round to the next.
//
// The verifier of 6.1 goes through the body once, with what it knows before the loop, and takes out what it then
// believes is never reached. (That of 6.12 doesn't.) So a number that rounds change, and that anything depends on,
// begins as one that the verifier doesn't know, or is in a map.
#pragma once

#include "kernel.h"

volatile __u32 nothing;  // 0

#define UNKNOWN(value) ((value) + nothing)
