#!/usr/bin/env bash
# Installs the Debian packages that are missing, and nothing else.
# Arguments: compile, demo (containers to try it on), test (what only tests need),
# image (what builds it),
# kernels, kernels_arm64 (virtual machines; their kernels are not installed), kube (a node; Kubernetes itself is built by kube.sh).
set -euo pipefail

compile=(g++ make pkg-config python3 clang llvm bpftool libbpf-dev libelf-dev zlib1g-dev ca-certificates)
demo=(runc busybox-static curl)
test=(ccache btrfs-progs xfsprogs git openssl python3-grpcio python3-protobuf protobuf-compiler prometheus rsyslog systemd containerd podman crun logrotate libc6-dev-arm64-cross libstdc++-12-dev-arm64-cross libclang-rt-14-dev lld)
kube=(busybox-static containerd containernetworking-plugins iproute2 openssl runc util-linux)
image=(buildah mmdebstrap binutils ca-certificates)
kernels=(qemu-system-x86 busybox-static runc crun e2fsprogs xfsprogs xz-utils openssl)
kernels_arm64=(qemu-system-arm g++-aarch64-linux-gnu)

# The Dockerfile's builder compiles for another architecture than its own.
source "$(dirname "$0")/target.sh"
if [ -n "$tools" ]; then
  compile+=("g++-$machine-linux-gnu" "libbpf-dev:$arch" "libelf-dev:$arch" "zlib1g-dev:$arch")
  case " $* " in *" compile "*) dpkg --add-architecture "$arch" ;; esac
fi

declare -a missing=()
for set_name in "$@"; do
  declare -n packages=$set_name
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
done
# Debian's npm only bootstraps: the Node.js that all of this runs on comes from the npm registry.
case " $* " in *" compile "*) command -v npm >/dev/null || missing+=(npm) ;; esac
[ ${#missing[@]} -eq 0 ] && exit 0

"$(dirname "$0")/require.sh" root
echo "installing: ${missing[*]}"

# Some of these packages start a service when installed (containerd, prometheus).
# We want their programs only.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod +x $policy
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null
