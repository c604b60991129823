#!/usr/bin/env bash
# Makes what QEMU boots of one of Debian's kernels: kernel.sh META-PACKAGE DIRECTORY
# leaves DIRECTORY/{vmlinuz,initrd,release}. Downloads the package unless it is
# there; installs nothing. Without a network the newest one that is there is taken.
set -euo pipefail
meta=$1 directory=$2 self=$(realpath "$0")
mkdir -p "$directory"
cd "$directory"

# The meta package names the package of the newest kernel, and that its version.
package=$(apt-cache depends "$meta" | awk '/Depends: linux-image-/ { print $2; exit }')
[ -n "$package" ] || { echo "kernel.sh: apt knows no $meta (apt-get update?)" >&2; exit 1; }
deb=$(find . -name "${package}_*.deb" | head -n 1)
if [ -z "$deb" ]; then
  rm -f ./*.deb
  apt-get download -qq -o APT::Sandbox::User=root "$package" || apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root "$package"
  deb=$(find . -name "${package}_*.deb" | head -n 1)
fi

release=${package#linux-image-}
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
