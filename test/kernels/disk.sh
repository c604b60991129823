#!/usr/bin/env bash
# Makes the disk of the virtual machines: disk.sh FILE [LAYER [ARM64]]
# Debian's programs that the tests run, with their libraries; this build of
# janusd; the tests, compiled, since the compiler would take minutes there.
# With a LAYER, an image layer for containers, also the bench. With what arm64.sh made: for a machine of that architecture.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
disk=$1 layer=${2-} arm64=${3-}
root=$disk.root
# Where programs are found; what was built; the compiler of what is built here, and of eBPF for that architecture.
search=$PATH:/usr/sbin:/sbin built=$top helpers=$top/test cc=(cc) bpf=(-D__TARGET_ARCH_x86 -I/usr/include/x86_64-linux-gnu)
if [ -n "$arm64" ]; then
  search=$arm64/base/usr/bin:$arm64/base/usr/sbin built=$arm64/src helpers=$arm64/test
  cc=(aarch64-linux-gnu-gcc -isystem "$arm64/include" "-L$arm64/lib" "-Wl,-rpath-link,$arm64/lib")
  bpf=(-D__TARGET_ARCH_arm64 -I/usr/aarch64-linux-gnu/include)
fi
find_program() { PATH=$search type -P "$1"; }

rm -rf "$root"
mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,root,etc,lib/modules,opt/janusd/node_modules,usr/bin,var/tmp}
chmod 1777 "$root/tmp" "$root/var/tmp"
ln -s bin "$root/sbin"

programs=(node runc crun sh basename bpftool cat chmod cp dirname env find grep id ls mkdir mkfs.ext4 mkfs.xfs mount nsenter openssl readlink rm rmdir setpriv sleep tail timeout umount unshare)
for program in "${programs[@]}"; do
  cp -L "$(find_program "$program")" "$root/bin/$program"
done
cp "$(find_program busybox)" "$root/bin/"
for applet in chroot cut dd head ip modprobe poweroff printf sed seq stat sysctl touch true tr truncate uname; do
  ln -s busybox "$root/bin/$applet"
done
ln -s /bin/env "$root/usr/bin/env"
if [ -n "$arm64" ]; then
  # (ldd can't tell what these need.)
  mkdir "$root/lib/aarch64-linux-gnu"
  cp -a "$arm64"/base/usr/lib/ld-linux-aarch64.so.1 "$root/lib/"
  cp -a "$arm64"/base/usr/lib/aarch64-linux-gnu/*.so* "$root/lib/aarch64-linux-gnu/"
else
  # (ldd minds what is static.)
  { ldd "$root"/bin/* "$built/native/build/Release/janusd.node" 2>/dev/null || true; } |
    grep -o '/lib[^ ]*' | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
fi
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
mkdir -p "$root/usr/lib/ssl"
cp -L /usr/lib/ssl/openssl.cnf "$root/usr/lib/ssl/"
printf 'ttyS0::sysinit:/opt/janusd/test/kernels/guest.sh\n' >"$root/etc/inittab"

# What is only for building stays here.
cd "$top"
mapfile -t heavy < <(printf -- '--exclude=./%s\n' 'node-linux-*' @biomejs @bufbuild/buf '@bufbuild/buf-*' @typescript typescript tshy node-gyp react-dom)
tar -C node_modules -c "${heavy[@]}" . | tar -x -C "$root/opt/janusd/node_modules"
cp -a bin dist package.json "$root/opt/janusd/"
mkdir -p "$root/opt/janusd/bpf"
cp "$built"/bpf/build/*.bpf.o "$root/opt/janusd/bpf/"
mkdir -p "$root/opt/janusd/native/build/Release"
cp "$built"/native/build/Release/{janusd.node,janusd-keeper,janusd-canary} "$root/opt/janusd/native/build/Release/"
node_modules/.bin/tsc -p tsconfig.test.json --noEmit false --rewriteRelativeImportExtensions --noCheck --sourceMap false --outDir "$root/opt/janusd"
mkdir -p "$root/opt/janusd/test/kernels"
cp -a "$here/guest.sh" "$root/opt/janusd/test/kernels/"
clang -O2 -g -Wall -target bpf -mcpu=v3 "${bpf[@]}" \
  -c "$here/types.bpf.c" -o "$root/opt/janusd/test/kernels/types.bpf.o"
"${cc[@]}" -O2 -Wall -Wextra "$here/load.c" -o "$root/opt/janusd/test/kernels/load" -lbpf
cp -a "$helpers/support/build" "$root/opt/janusd/test/support/"
cp -a test/support/*.c test/support/*.cjs "$root/opt/janusd/test/support/"
cp -a "$helpers/bypass/build" "$root/opt/janusd/test/bypass/"
cp -a test/bypass/*.[ch] "$root/opt/janusd/test/bypass/"
if [ -n "$layer" ]; then
  cp -a "$layer" "$root/opt/layer"
  cp -a bench/build bench/*.c "$root/opt/janusd/bench/"
fi

rm -f "$disk"
mkfs.ext4 -q -O '^has_journal' -E root_owner=0:0 -d "$root" "$disk" 4G
rm -rf "$root"
