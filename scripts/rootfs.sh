#!/usr/bin/env bash
# Unpacks into a new directory what of Debian the image needs: C libraries, and busybox for the shell scripts and for
# whoever looks around. Runs in the builder of the Dockerfile. Argument: the directory.
set -euo pipefail
root=$1
source "$(dirname "$0")/target.sh"
packages=(base-files libc6 libgcc-s1 libstdc++6 libbpf1 libelf1 zlib1g busybox)

mkdir -p "$root"/{etc,proc,sys,dev,run,tmp,var/lib/janusd,var/lib/dpkg/status.d,usr/local/bin}
chmod 1777 "$root/tmp"
download=$(mktemp -d)
trap 'rm -rf "$download"' EXIT
apt-get update -qq
(cd "$download" && apt-get download -qq -o APT::Sandbox::User=root "${packages[@]/%/:$arch}")
for package in "$download"/*.deb; do
  dpkg -x "$package" "$root"
  # Scanners find there what is in the image.
  dpkg -f "$package" >"$root/var/lib/dpkg/status.d/$(dpkg -f "$package" Package)"
done
# Of documentation only the licences stay; gconv converts character sets that nobody has here.
find "$root/usr/share/doc" -type f ! -name copyright -delete
rm -rf "$root"/usr/share/{man,lintian,locale,base-files,bug} "$root"/usr/lib/*/gconv "$root"/etc/{init.d,cron.d}
find "$root/usr/share" -type d -empty -delete

applets=$root/bin/busybox node=$(readlink -f "$(command -v node)")
if [ -n "$tools" ]; then
  # What doesn't run here is had as it is for this machine, or from npm.
  (cd "$download" && apt-get download -qq -o APT::Sandbox::User=root busybox && dpkg -x busybox_*_"$(dpkg --print-architecture)".deb native)
  (cd "$download" && npm pack --silent "node-linux-$arch@$(node --version | tr -d v)" >/dev/null && tar -xzf node-linux-*.tgz)
  applets=$download/native/bin/busybox node=$download/package/bin/node
fi
for applet in $("$applets" --list); do
  [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"

# Debuggers' symbols are a seventh of Node.js. What addons look up by name stays.
"${tools}strip" --strip-unneeded -o "$root/usr/local/bin/node" "$node"
chmod 755 "$root/usr/local/bin/node"
mkdir -p "$root/usr/local/share"
node --version >"$root/usr/local/share/node-version"
for program in janusd janusctl; do ln -s "/opt/janusd/bin/$program" "$root/usr/local/bin/"; done
