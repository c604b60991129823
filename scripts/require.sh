#!/usr/bin/env bash
# Says in one line what is missing for what is about to be done. Arguments: node, root, btf, kernel.
set -euo pipefail

fail() {
  echo "janusd: $*" >&2
  exit 1
}

for need in "$@"; do
  case $need in
    node)
      version=$(node --version 2>/dev/null) || fail "Node.js 20.19 or newer is needed: there is no \`node\` on the PATH"
      IFS=. read -r major minor _ <<<"${version#v}"
      ((major > 20 || (major == 20 && minor >= 19))) || fail "Node.js 20.19 or newer is needed: this is $version"
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
