// Whether the daemon is there, and what opens and changes became while it was away.
//
// Owns: the two maps that are pinned for whoever comes after it.
#pragma once

#include "kernel.h"

#include <bpf/bpf_helpers.h>

#include "event.h"

// A map of its own, so that it can be pinned.
struct janus_presence presence SEC(".data.presence") = {.layout = JANUS_KEPT_LAYOUT};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, JANUS_AWAY_COUNTS);
  __type(key, __u32);
  __type(value, __u64);
} away_counts SEC(".maps");

// Another daemon's programs go on, or have gone on.
static __always_inline bool is_over(void) { return presence.away && (presence.heir || presence.ended); }

static __always_inline void count_away(__u32 which) {
  if (!presence.settled) return;
  __u64 *count = bpf_map_lookup_elem(&away_counts, &which);
  if (count) ++*count;
}

// `deep`: since it may lie below what is denied.
static __always_inline int deny_away(bool deep) {
  count_away(JANUS_AWAY_DENIED);
  if (deep) count_away(JANUS_AWAY_DEEP);
  return -EPERM;
}
