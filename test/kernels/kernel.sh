#!/usr/bin/env bash
# Makes what QEMU boots of one of Debian's kernels: kernel.sh META-PACKAGE DIRECTORY [SUITE [ARCHITECTURE BUSYBOX]]
# leaves DIRECTORY/{vmlinuz,initrd,release}. Installs nothing: the packages are kept outside the checkout, in
# $JANUSD_KERNELS_CACHE, or ~/.cache/janusd/kernels. With a SUITE, of that one, whatever this machine's are;
# with an ARCHITECTURE, for that one, which the busybox is for, too.
# Without a network the newest kernel that is there is taken. Exit status 69: there is none, and apt gives none.
set -euo pipefail
meta=$1 directory=$2 suite=${3-} architecture=${4-} busybox=${5-/bin/busybox} self=$(realpath "$0")
source "$(dirname "$0")/apt.sh"
cache=${JANUSD_KERNELS_CACHE:-$HOME/.cache/janusd/kernels}/$meta${suite:+-$suite}
mkdir -p "$directory" "$cache"
exec 9>"$cache/lock"
flock 9

apt_options=(-o APT::Sandbox::User=root)
[ -z "$suite" ] || of_suite "$cache/apt" "$suite" "$architecture"

# What a package depends on, by the beginning of its name.
depends() { apt-cache "${apt_options[@]}" depends "$1" 2>/dev/null | awk -v prefix="$2" '$1 == "Depends:" && index($2, prefix) == 1 { print $2 }'; }

# The meta package names the package of the newest kernel, and that its version. Those of sid have their files in others.
download() {
  local package
  package=$(depends "$meta" linux-image- | head -n 1)
  [ -n "$package" ] || return 1
  [ -z "$(find "$cache" -maxdepth 1 -name "${package}_*.deb")" ] || return 0
  rm -rf "$cache/new"
  mkdir "$cache/new"
  (cd "$cache/new" && apt-get download -qq "${apt_options[@]}" "$package" $(depends "$package" linux-binary-) $(depends "$package" linux-modules-)) || return 1
  rm -f "$cache"/*.deb
  mv "$cache"/new/*.deb "$cache/"
}
download || { apt-get update -qq "${apt_options[@]}" && download; } || echo "kernel.sh: apt doesn't give $meta${suite:+ of $suite}" >&2
deb=$(find "$cache" -maxdepth 1 -name 'linux-image-*.deb' | sort --version-sort | tail -n 1)
[ -n "$deb" ] || exit 69

release=$(basename "$deb")
release=${release#linux-image-}
release=${release%%_*}
cd "$directory"
[ -e initrd ] && [ "$(cat release 2>/dev/null)" = "$release" ] && [ initrd -nt "$self" ] && exit 0

rm -rf tree root
mkdir -p tree root/{bin,dev,proc,sys,disk}
modules='*/lib/modules/*'
for package in "$cache"/*.deb; do
  # (tar minds a pattern that fits nothing.)
  dpkg-deb --fsys-tarfile "$package" | tar -x -C tree --wildcards "./boot/vmlinuz-*" "$modules/vmlinuz" "$modules/modules.*" \
    "$modules/kernel/drivers/virtio/*" "$modules/kernel/drivers/block/virtio_blk.ko*" "$modules/kernel/fs/overlayfs/*" \
    "$modules/kernel/drivers/block/loop.ko*" "$modules/kernel/fs/xfs/*" "$modules/kernel/lib/libcrc32c.ko*" "$modules/kernel/fs/fuse/fuse.ko*" 2>/dev/null || true
done
[ ! -d tree/usr/lib ] || mv tree/usr/lib tree/
mv tree/boot/vmlinuz-* vmlinuz 2>/dev/null || mv tree/lib/modules/*/vmlinuz vmlinuz
find tree -name '*.ko.xz' -exec xz --decompress {} +
busybox depmod -b tree "$release"

cp -a tree/lib root/
cp "$busybox" root/bin/
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
