# Sourced by bin/janusd and bin/janusctl. Sets `top`, where the program is, and `node`, the Node.js that it
# runs on: the one that `npm ci` brought, else the one on the PATH.
top=$(dirname "$(dirname "$(readlink -f "$0")")")
node=$top/node_modules/.bin/node
[ -x "$node" ] || node=node
if [ ! -e "$top/dist/main.js" ]; then
  echo "$(basename "$0"): not built yet: run \"make build\" first" >&2
  exit 1
fi
