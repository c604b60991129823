#!/bin/sh
# Runs in the virtual machine, by busybox init: mounts what a node has, and runs
# what the kernel's command line asks for (kernels.steps=a,b). Each step's
# output goes to the console between two marks that runner.ts knows.
export PATH=/bin HOME=/root
cd /opt/janusd || exit 1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
ip link set lo up

steps=$(sed -n 's/.*kernels\.steps=\([^ ]*\).*/\1/p' /proc/cmdline)
for step in $(echo "$steps" | tr , ' '); do
  echo "## begin $step"
  case $step in
    facts)
      echo "kernel: $(uname -r)"
      echo "lsm: $(cat /sys/kernel/security/lsm)"
      node -e 'console.log(JSON.stringify(require("/opt/janusd/native/build/Release/janusd.node").probe()))'
      ;;
    programs)
      bpftool prog loadall bpf/janusd.bpf.o /sys/fs/bpf/janusd && bpftool prog show
      ;;
    bypass) node test/bypass/runner.js --tap --iterations 5 --against janusd </dev/null ;;
    shell) sh ;;
    *) node "test/kernel/$step.test.js" </dev/null ;;
  esac
  echo "## end $step $?"
done 2>&1
echo "## done"
poweroff -f
