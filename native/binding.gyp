{
  "targets": [
    {
      "target_name": "janusd",
      "sources": [
        "addon/addon.cc",
        "cover/border.cc", "cover/canary.cc", "cover/container_view.cc", "cover/directory_lister.cc", "cover/directory_table.cc", "cover/ground.cc", "cover/guard_compiler.cc", "cover/identity_scanner.cc", "cover/ignore_learner.cc", "cover/mark_planner.cc", "cover/mark_set.cc", "cover/mount_cloner.cc", "cover/mounts.cc", "cover/name_watch.cc", "cover/path_note.cc", "cover/replanner.cc", "cover/tree_walk.cc",
        "decide/answerer.cc", "decide/dirent_observer.cc", "decide/explainer.cc", "decide/gate.cc", "decide/kernel_denials.cc", "decide/observer.cc", "decide/recorder.cc", "decide/rehearsal.cc",
        "ebpf/attachments.cc", "ebpf/bpf_programs.cc", "ebpf/change_hooks.cc", "ebpf/decider.cc", "ebpf/kept.cc", "ebpf/libbpf_log.cc", "ebpf/locator.cc", "ebpf/map_sizes.cc", "ebpf/pins.cc", "ebpf/preemption.cc", "ebpf/probe.cc", "ebpf/record_stream.cc", "ebpf/rule_filters.cc",
        "hold/arrivals.cc", "hold/held.cc", "hold/holder.cc", "hold/keeper_process.cc",
        "identity/identity_table.cc", "identity/judge.cc", "identity/kernel_rules.cc", "identity/shares.cc", "identity/tree_watch.cc",
        "os/close_apart.cc", "os/descriptors.cc", "os/fanotify_group.cc", "os/fault.cc", "os/file_handle.cc", "os/last_resort.cc", "os/path_resolver.cc", "os/peer.cc", "os/process_dir.cc", "os/urgency.cc",
        "policy/certain.cc", "policy/glob.cc", "policy/policy.cc", "policy/rule_table.cc",
        "record/event_ring.cc", "record/refusals.cc",
        "track/container_search.cc", "track/inspector.cc", "track/pod_path.cc", "track/process_table.cc", "track/tracker.cc",
        "engine.cc"
      ],
      "include_dirs": [".", "..", "<!@(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
      "cflags_cc": ["-std=c++20", "-fexceptions", "-Wall", "-Wextra", "-Werror"],
      "libraries": ["-lbpf"]
    },
    {
      "target_name": "janusd-keeper",
      "type": "executable",
      "sources": ["hold/keeper.cc", "hold/held.cc"],
      "include_dirs": [".", ".."],
      "cflags_cc!": ["-std=gnu++17"],
      "cflags_cc": ["-std=c++20", "-fexceptions", "-Wall", "-Wextra", "-Werror"],
      "libraries": ["-lbpf"]
    },
    {
      "target_name": "janusd-canary",
      "type": "executable",
      "sources": ["cover/canary_opener.cc"],
      "cflags_cc": ["-Wall", "-Wextra", "-Werror"]
    }
  ]
}
