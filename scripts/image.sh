#!/usr/bin/env bash
# Builds the image with buildah, and writes it with a list of what is in it (SPDX) to build/image. Where the
# Dockerfile's base can't be pulled, it is made from Debian's packages, Node.js and npm, under the same name: the
# Dockerfile is the same. Layers are kept in $JANUSD_IMAGE_CACHE, or ~/.cache/janusd/image.
# Argument: linux/amd64 or linux/arm64; left out: this machine's.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh root node
scripts/install.sh image

version=$(node -p 'require("./package.json").version')
commit=$(git rev-parse HEAD)
[ -z "$(git status --porcelain)" ] || commit+=-dirty
own=$(dpkg --print-architecture)
TARGETARCH=${1:-linux/$own}
TARGETARCH=${TARGETARCH#linux/}
source scripts/target.sh
base=$(awk '$1 == "FROM" { print $3; exit }' Dockerfile)
tag=janusd:$version
[ -z "$tools" ] || tag+=-$arch
out=build/image
archive=$out/janusd-$version-$arch.tar
mkdir -p $out

# Images of its own, outside the checkout: nothing of it is in the machine's. What is there is not built again.
cache=${JANUSD_IMAGE_CACHE:-$HOME/.cache/janusd/image}
mkdir -p "$cache"
buildah=(buildah --root "$cache/storage" --runroot "$cache/run")
log=$out/build-$arch.log
certificates=/etc/ssl/certs/ca-certificates.crt

# Debian and Node.js as the official image has them, as far as the builder needs.
make_base() {
  echo "$base can't be pulled from here: making it from Debian's packages and npm's"
  local root=$out/base.tar work suite
  suite=$(sed 's/.*-\([a-z]*\)-slim$/\1/' <<<"$base")
  work=$(mktemp -d)
  # mmdebstrap gives its work to another user.
  chmod 755 "$work"
  npm install --silent --global --ignore-scripts --engine-strict=false --prefix "$work/local" npm@11 "node-linux-${own/amd64/x64}@24"
  ln -sf "../lib/node_modules/node-linux-${own/amd64/x64}/bin/node" "$work/local/bin/node"
  mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Languages "none"' "$suite" "$root" \
    "deb http://deb.debian.org/debian $suite main" "deb http://deb.debian.org/debian $suite-updates main" \
    "deb http://deb.debian.org/debian-security $suite-security main"
  local container
  container=$("${buildah[@]}" from scratch)
  "${buildah[@]}" add --quiet "$container" "$root" / >/dev/null
  "${buildah[@]}" copy --quiet "$container" "$work/local" /usr/local >/dev/null
  # This machine's authorities: the way to npm's registry may be a proxy of one.
  "${buildah[@]}" copy --quiet "$container" $certificates /usr/local/share/janusd-build.crt >/dev/null
  "${buildah[@]}" config --env NODE_EXTRA_CA_CERTS=/usr/local/share/janusd-build.crt --cmd node "$container"
  "${buildah[@]}" commit --quiet --rm "$container" "docker.io/library/$base" >/dev/null
  rm -rf "$work" "$root"
}

"${buildah[@]}" inspect --type image "docker.io/library/$base" >/dev/null 2>&1 ||
  "${buildah[@]}" pull --quiet "docker.io/library/$base" >/dev/null 2>&1 || make_base
echo "building $tag of $commit: the first time it takes a quarter of an hour ($log)"
"${buildah[@]}" bud --pull-never --layers --network host --isolation chroot \
  --platform "linux/$arch" --build-arg "BUILDPLATFORM=linux/$own" --build-arg "COMMIT=$commit" --tag "$tag" --file Dockerfile . >"$log" 2>&1 || { tail -40 "$log" && exit 1; }

rm -f "$archive"
"${buildah[@]}" push --quiet "$tag" "docker-archive:$archive:$tag"
container=$("${buildah[@]}" from "$tag")
trap '"${buildah[@]}" rm "$container" >/dev/null' EXIT
mounted=$("${buildah[@]}" mount "$container")
# Whatever npm brought: nothing in it is for another machine.
machines=$(find "$mounted" -type f -print0 | { xargs -0 readelf --file-header 2>/dev/null || true; } |
  awk '$1 == "Machine:" { print $NF }' | sort --unique | xargs)
case $arch:$machines in
  amd64:X86-64 | arm64:AArch64) ;;
  *) echo "the image for $arch has programs for: $machines" >&2 && exit 1 ;;
esac
node scripts/sbom.mjs "$mounted" "$tag" "$commit" >"$archive.spdx.json"
size=$(du --summarize --apparent-size --block-size=1000 "$mounted" | cut -f1)
"${buildah[@]}" umount "$container" >/dev/null
echo "$archive: $((size / 1000)) MB unpacked, $(($(gzip --stdout --fast "$archive" | wc -c) / 1000000)) MB compressed"
