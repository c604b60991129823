# shellcheck shell=bash
# A throw-away container: runc, overlayfs, a bind-mounted volume. Sourced by
# demo.sh; everything is below one directory, and container_remove takes it all
# away again, however far container_start got.

# Prints 64 random hex characters, like a container runtime's ids.
container_new_id() {
  od -An -vtx1 -N32 /dev/urandom | tr -d ' \n'
}

# container_start DIRECTORY ID: the image is busybox plus DIRECTORY/files, the
# volume DIRECTORY/volume is mounted at /data.
container_start() {
  local directory=$1 id=$2 applet
  local image=$directory/image root=$directory/rootfs
  mkdir -p "$image"/{bin,etc,proc,sys,dev,tmp,root,data} "$root" "$directory"/{files,volume,upper,work,runc}
  cp /bin/busybox "$image/bin/busybox"
  for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$image/bin/$applet"
  done
  mount -t overlay overlay \
    -o "lowerdir=$directory/files:$image,upperdir=$directory/upper,workdir=$directory/work" "$root"
  container_config "$directory" "$id" >"$directory/config.json"
  runc --root "$directory/runc" run --detach --bundle "$directory" "$id" </dev/null >/dev/null 2>"$directory/runc.log" ||
    { cat "$directory/runc.log" >&2; return 1; }
}

# container_config DIRECTORY ID: an OCI runtime configuration with docker's default capabilities.
container_config() {
  local capabilities='["CAP_AUDIT_WRITE","CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL","CAP_MKNOD",
    "CAP_NET_BIND_SERVICE","CAP_NET_RAW","CAP_SETFCAP","CAP_SETGID","CAP_SETPCAP","CAP_SETUID","CAP_SYS_CHROOT"]'
  cat <<EOF
{
  "ociVersion": "1.0.2",
  "hostname": "demo",
  "process": {
    "terminal": false,
    "user": { "uid": 0, "gid": 0 },
    "args": ["/bin/sleep", "1000000"],
    "env": ["PATH=/bin"],
    "cwd": "/",
    "capabilities": { "bounding": $capabilities, "effective": $capabilities, "permitted": $capabilities }
  },
  "root": { "path": "$1/rootfs" },
  "mounts": [
    { "destination": "/proc", "type": "proc", "source": "proc" },
    { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
    { "destination": "/data", "type": "bind", "source": "$1/volume", "options": ["rbind", "rw"] }
  ],
  "linux": {
    "cgroupsPath": "/janusd-demo/$2",
    "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network" }]
  }
}
EOF
}

# container_exec DIRECTORY ID COMMAND...
container_exec() {
  local directory=$1 id=$2
  shift 2
  runc --root "$directory/runc" exec "$id" "$@"
}

# container_remove DIRECTORY ID
container_remove() {
  local directory=$1 id=$2
  runc --root "$directory/runc" delete --force "$id" 2>/dev/null || true
  if mountpoint -q "$directory/rootfs" 2>/dev/null; then umount "$directory/rootfs"; fi
  # Other demos may still use the parent cgroup: rmdir leaves it then.
  find /sys/fs/cgroup -maxdepth 2 -name janusd-demo -exec rmdir {} + 2>/dev/null || true
  rm -rf --one-file-system "$directory"
}
