{
  "targets": [
    {
      "target_name": "janusd",
      "sources": [
        "addon.cc", "bpf_programs.cc", "container_search.cc", "container_view.cc", "engine.cc", "event_ring.cc",
        "fanotify_group.cc", "gate.cc", "glob.cc", "held.cc", "holder.cc", "identity_scanner.cc", "identity_table.cc", "ignore_learner.cc", "inspector.cc", "judge.cc", "libbpf_log.cc", "locator.cc",
        "map_sizes.cc", "mark_planner.cc", "mounts.cc", "name_watch.cc", "observer.cc", "path_resolver.cc", "policy.cc", "probe.cc",
        "process_table.cc", "recorder.cc", "tracker.cc", "tree_walk.cc", "tree_watch.cc", "urgency.cc"
      ],
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
      "cflags_cc": ["-std=c++20", "-fexceptions", "-Wall", "-Wextra", "-Werror"],
      "libraries": ["-lbpf"]
    },
    {
      "target_name": "janusd-keeper",
      "type": "executable",
      "sources": ["keeper.cc", "held.cc"],
      "cflags_cc!": ["-std=gnu++17"],
      "cflags_cc": ["-std=c++20", "-fexceptions", "-Wall", "-Wextra", "-Werror"],
      "libraries": ["-lbpf"]
    }
  ]
}
