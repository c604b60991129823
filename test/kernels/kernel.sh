#!/usr/bin/env bash
# Makes what QEMU boots of one of Debian's kernels: kernel.sh META-PACKAGE DIRECTORY
# leaves DIRECTORY/{vmlinuz,initrd,release}. Installs nothing: the package is kept outside the checkout, in
# $JANUSD_KERNELS_CACHE, or ~/.cache/janusd/kernels. Without a network the newest one that is there is taken.
# Exit status 69: there is none, and apt gives none.
set -euo pipefail
meta=$1 directory=$2 self=$(realpath "$0")
cache=${JANUSD_KERNELS_CACHE:-$HOME/.cache/janusd/kernels}/$meta
mkdir -p "$directory" "$cache"
exec 9>"$cache/lock"
flock 9

# The meta package names the package of the newest kernel, and that its version.
download() {
  local package
  package=$(apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }')
  [ -n "$package" ] || return 1
  [ -z "$(find "$cache" -maxdepth 1 -name "${package}_*.deb")" ] || return 0
  rm -rf "$cache/new"
  mkdir "$cache/new"
  (cd "$cache/new" && apt-get download -qq -o APT::Sandbox::User=root "$package") || return 1
  rm -f "$cache"/*.deb
  mv "$cache"/new/*.deb "$cache/"
}
download || { apt-get update -qq && download; } || echo "kernel.sh: apt doesn't give $meta" >&2
deb=$(find "$cache" -maxdepth 1 -name '*.deb' | sort --version-sort | tail -n 1)
[ -n "$deb" ] || exit 69

release=$(basename "$deb")
release=${release#linux-image-}
release=${release%%_*}
cd "$directory"
[ -e initrd ] && [ "$(cat release 2>/dev/null)" = "$release" ] && [ initrd -nt "$self" ] && exit 0

rm -rf tree root
mkdir -p tree root/{bin,dev,proc,sys,disk}
dpkg-deb --fsys-tarfile "$deb" | tar -x -C tree --wildcards "./boot/vmlinuz-*" "./lib/modules/*/modules.*" \
  "./lib/modules/*/kernel/drivers/virtio/*" "./lib/modules/*/kernel/drivers/block/virtio_blk.ko*" \
  "./lib/modules/*/kernel/fs/overlayfs/*"
cp "tree/boot/vmlinuz-$release" vmlinuz
find tree -name '*.ko.xz' -exec xz --decompress {} +
busybox depmod -b tree "$release"

cp -a tree/lib root/
cp /bin/busybox root/bin/
# The module of overlayfs isn't loaded: a node without containers has none yet.
cat >root/init <<'INIT'
#!/bin/busybox sh
busybox mount -t devtmpfs dev /dev
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox modprobe -a virtio_pci virtio_blk
busybox mount -t ext4 /dev/vda /disk || busybox poweroff -f
busybox cp -a /lib/modules /disk/lib/
busybox umount /proc /sys
busybox mount --move /dev /disk/dev
exec busybox switch_root /disk /bin/busybox init
INIT
chmod +x root/init
(cd root && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >initrd.made
rm -rf tree root
echo "$release" >release
mv initrd.made initrd
