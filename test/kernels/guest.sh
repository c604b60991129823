#!/bin/sh
# Runs in the virtual machine, by busybox init: mounts what a node has, then runs
# the steps of the kernel's command line (kernels.steps=a,b). What each writes
# stands between two marks that runner.ts knows.
export PATH=/bin HOME=/root
# Processors are emulated here: everything takes ten times as long, or more.
export TEST_PATIENCE_MS=${TEST_PATIENCE_MS:-600000} TEST_BESIDE=1 TAP_TIMEOUT=1800 ENDING_RUNS=1 ARRIVALS=10
cd /opt/janusd || exit 1
# (Not all that is about names: overlayfs has no O_TMPFILE in 6.1.)
attempts=links,replaced,later,again,symlink,repoint,warm,copied-up,whiteout,new-tree,file-moved,path-only-moved
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
ip link set lo up
modprobe loop # for /dev/loop-control

# One clear line, exit status 1: what libbpf would find elsewhere isn't there, either.
no_btf() {
  unshare --mount sh -c 'mount -t tmpfs none /sys/kernel/btf && exec bin/janusd --listen=127.0.0.1:0 --insecure --http=127.0.0.1:0 --state-file=' 2>/tmp/no-btf
  status=$?
  cat /tmp/no-btf
  [ $status = 1 ] && [ "$(grep -c . /tmp/no-btf)" = 1 ] && grep -q '^janusd: .*BTF' /tmp/no-btf
}

run() {
  case $1 in
    doctor) bin/janusctl doctor -o json ;;
    programs) test/kernels/load bpf/*.bpf.o ;;
    types) test/kernels/load test/kernels/types.bpf.o ;;
    no-btf) no_btf ;;
    bypass) node test/bypass/runner.js --tap --against janusd --iterations 5 --as unprivileged --place image --only "$attempts" ;;
    bypass-container) node test/bypass/runner.js --tap --against janusd --iterations 5 --as unprivileged --of-container ;;
    bypass-container-admin) node test/bypass/runner.js --tap --against janusd --iterations 5 --as userns-admin --of-container ;;
    bypass-mounts) node test/bypass/runner.js --tap --against janusd --iterations 5 --as userns-admin --place image,disk --only mounts,namespaces ;;
    # The machine's own patience ends it (smoke.test.ts).
    smoke) TEST_PATIENCE_MS=1200000 node test/kernels/smoke.js ;;
    hold-open | decide | changes) node "test/kernels/$1.js" ;;
    bench-*) node bench/guest.js "${1#bench-}" ;;
    *) node "test/kernel/$1.test.js" ;;
  esac
}

for step in $(sed -n 's/.*kernels\.steps=\([^ ]*\).*/\1/p' /proc/cmdline | tr , ' '); do
  echo "## begin $step"
  run "$step" </dev/null 2>&1
  printf "\n## end %s %s\n" "$step" $?
done
poweroff -f
