# Sourced by what builds the image: which architecture it is for. $arch is its name in Debian ($TARGETARCH of the Dockerfile; by
# default this machine's), $machine the one of uname, $tools the prefix of binutils for it.
arch=${TARGETARCH:-$(dpkg --print-architecture)}
case $arch in
  amd64) machine=x86_64 ;;
  arm64) machine=aarch64 ;;
  *) echo "there are images for amd64 and arm64, not for $arch" >&2 && exit 2 ;;
esac
if [ "$arch" = "$(dpkg --print-architecture)" ]; then tools=; else tools=$machine-linux-gnu-; fi
