#!/usr/bin/env bash
# Guards a real container and shows what happens. Needs root and a built
# checkout: `make demo` sees to both. KEEP=1 stays up to play with.
#
# Makes one directory in /var/tmp, one container and one daemon, and removes
# them when it ends, also when interrupted.
set -euo pipefail
cd "$(dirname "$0")/.."
source demo/lib.sh
scripts/require.sh root btf kernel

work=$(mktemp -d /var/tmp/janusd-demo.XXXXXX)
id=$(container_new_id)
daemon=
follower=

clean_up() {
  trap '' INT TERM HUP
  # A signal may come between its start and the line that keeps its number.
  daemon=${daemon:-${!:-}}
  if [ -n "$follower" ]; then kill "$follower" 2>/dev/null || true; fi
  if [ -n "$daemon" ] && kill -TERM "$daemon" 2>/dev/null; then wait "$daemon" || true; fi
  container_remove "$work" "$id"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi

heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# Prints a command as one would type it.
type_out() {
  local prompt=$1 word line=
  shift
  for word in "$@"; do
    case $word in *[\ \;]*) word="'$word'" ;; esac
    line+=" $word"
  done
  printf '  %s%s%s%s\n' "$dim" "$prompt" "$line" "$plain"
}

# show COMMAND...: what an operator would type, then what it prints.
show() {
  type_out '$' "$@"
  "$@" 2>&1 | sed 's/^/  /'
}

# allowed COMMAND..., denied COMMAND...: inside the container. The demo fails if it ends otherwise.
allowed() {
  type_out 'container#' "$@"
  container_exec "$work" "$id" "$@" 2>&1 | sed 's/^/  /' || { echo "janusd demo: this should have been allowed" >&2; exit 1; }
}

denied() {
  local output
  type_out 'container#' "$@"
  if output=$(container_exec "$work" "$id" "$@" 2>&1) || [[ $output != *"Operation not permitted"* ]]; then
    echo "janusd demo: this should have been denied: $output" >&2
    exit 1
  fi
  printf '  %s\n' "$output"
}

# The first port from $1 on that nobody listens on.
free_port() {
  local port=$1
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "$port"
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
  local tries=$(($1 * 20))
  shift
  until "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || return 1
    [ -z "$daemon" ] || kill -0 "$daemon" 2>/dev/null || return 1
    sleep 0.05
  done
}

# Whether somebody follows the events.
follows() { curl -fsS "http://$http/metrics" | grep '^janusd_event_streams 1$'; }

# Figures are up to a second old.
counted() { curl -fsS "http://$http/metrics" | grep -F 'guard="demo",response="deny"} 4'; }

grpc=unix://$work/janusd.sock
http=127.0.0.1:$(free_port 9464)

heading "1. A container: runc, overlayfs, and a volume at /data"
mkdir -p "$work"/{files/etc/app,volume/secrets}
echo 'listen = 8080' >"$work/files/etc/app/app.conf"
echo 'hunter2' >"$work/files/etc/app/password"
echo 'hello' >"$work/volume/readme"
echo 'BEGIN PRIVATE KEY' >"$work/volume/secrets/key"
container_start "$work" "$id"
show runc --root "$work/runc" list -f table
allowed cat /etc/app/password /data/secrets/key
echo "  (Nothing guards it yet: both can be read.)"

heading "2. The daemon"
printf '  %s$ bin/janusd --listen %s --http %s%s\n' "$dim" "$grpc" "$http" "$plain"
# --keep=false: nothing of the demo stays in the kernel.
bin/janusd --listen "$grpc" --http "$http" --node-name "$(hostname)" --state-file "$work/state.json" --keep=false \
  >"$work/events.log" 2>"$work/janusd.log" </dev/null &
daemon=$!
wait_for 20 curl -fsS "http://$http/readyz" || { cat "$work/janusd.log"; exit 1; }
type_out '$' curl -s "http://$http/readyz"
curl -fsS "http://$http/readyz" | sed -e 's/},/},\n/g' -e 's/:\[/:[\n/' -e '$a\' | sed 's/^/  /'

export JANUSD_ADDRESS=$grpc
type_out '$' export JANUSD_ADDRESS="$grpc"

heading "3. A guard that only looks (mode: audit), over gRPC"
cat >"$work/guard.yaml" <<EOF
apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata:
  name: demo
  namespace: default
spec:
  podName: demo-pod
  mode: audit
  containers: ["containerd://$id"]
  subjects:
    - deny: [/etc/app, /data/secrets]
      allow: [/etc/app/app.conf]
      recursive: true
      events: [open, exec]
      tags: { team: demo }
EOF
show cat "$work/guard.yaml"
show bin/janusctl create -f "$work/guard.yaml"
allowed cat /etc/app/password
type_out '$' bin/janusctl events --audit
wait_for 5 grep -q AUDIT "$work/events.log"
bin/janusctl events --audit | sed 's/^/  /'
echo "  (It would have been denied.)"

heading "4. Why? janusctl explain"
show bin/janusctl explain "$id" /etc/app/password

heading "5. The same guard enforces, with no unguarded moment between"
sed -i 's/mode: audit/mode: enforce/' "$work/guard.yaml"
show bin/janusctl apply -f "$work/guard.yaml"
bin/janusctl events --follow --deny >"$work/live" &
follower=$!
wait_for 20 follows
allowed cat /etc/app/app.conf
allowed cat /data/readme

heading "6. Denied reads: EPERM, also by way of a hard link, and however the path is spelt"
denied cat /etc/app/password
denied cat /data/secrets/key
denied sh -c 'mkdir /data/new; mv /data/secrets /data/new; cat /data/new/secrets/key'
denied sh -c 'ln /data/new/secrets/key /data/innocent; cat /data/innocent'

heading "7. What the daemon logged, and who follows saw at once"
wait_for 5 grep -q innocent "$work/events.log"
show cat "$work/events.log"
wait_for 5 grep -q innocent "$work/live"
type_out '$' bin/janusctl events --follow --deny
sed 's/^/  /' "$work/live"
kill "$follower"
wait "$follower" || true
follower=

heading "8. The same, counted"
wait_for 5 counted
printf '  %s$ curl -s http://%s/metrics | grep demo | grep -v bucket%s\n' "$dim" "$http" "$plain"
curl -fsS "http://$http/metrics" | grep -F 'guard="demo"' | grep -v _bucket | sed 's/^/  /'

heading "9. GetGuardState"
show bin/janusctl list

if [ "${KEEP:-}" = 1 ]; then
  heading "Still running. In another terminal, from $PWD:"
  cat <<EOF
  export JANUSD_ADDRESS=$grpc
  runc --root $work/runc exec -t $id sh      # a shell in the container
  bin/janusctl events --follow
  curl -s http://$http/metrics | grep ^janusd_
  bin/janusctl list -o json
  bin/janusctl delete demo

  Ctrl-C ends it and cleans up.
EOF
  while kill -0 "$daemon" 2>/dev/null; do sleep 1 & wait $! || true; done
  echo "janusd demo: the daemon ended:" >&2
  tail -n 5 "$work/janusd.log" >&2
  exit 1
else
  heading "Done; cleaning up. (make demo KEEP=1 stays up to play with.)"
fi
