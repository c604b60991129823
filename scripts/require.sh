#!/usr/bin/env bash
# Says in one line what is missing for what is about to be done. Arguments: node, root, btf, kernel.
set -euo pipefail

fail() {
  echo "janusd: $*" >&2
  exit 1
}

for need in "$@"; do
  case $need in
    node) # Node.js 24 itself comes from the npm registry (package.json).
      command -v npm >/dev/null || fail "npm is needed: there is none on the PATH (apt-get install npm)"
      case $(uname -m) in
        x86_64 | aarch64) ;;
        *) fail "Node.js 24 is not brought for $(uname -m): janusd runs on x86-64 and arm64" ;;
      esac
      ;;
    root)
      [ "$(id -u)" = 0 ] || fail "this needs root (fanotify, eBPF, containers): run it with sudo"
      ;;
    btf)
      [ -r /sys/kernel/btf/vmlinux ] || fail "this kernel has no BTF (/sys/kernel/btf/vmlinux): it was built without CONFIG_DEBUG_INFO_BTF"
      ;;
    kernel) # What only trying shows; needs the built addon.
      cd "$(dirname "$0")/.."
      node --input-type=module -e '
        import { loadAddon } from "./dist/native.js";
        const missing = loadAddon().probe().missing;
        for (const line of missing) console.error(`janusd: ${line}`);
        process.exit(missing.length === 0 ? 0 : 1);'
      ;;
    *) fail "require.sh: unknown need \"$need\"" ;;
  esac
done
