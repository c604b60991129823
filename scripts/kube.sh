#!/usr/bin/env bash
# Builds what tests of Kubernetes need, from its Go modules (test/kube has the versions), into a cache
# outside the checkout: $JANUSD_KUBE_CACHE, or ~/.cache/janusd/kube/bin. What is there already stays.
# Arguments: the programs to build; none: all of them.
set -euo pipefail
cd "$(dirname "$0")/../test/kube"

declare -A module=([etcd]=kubernetes [helm]=helm)
declare -A package=([etcd]=go.etcd.io/etcd/server/v3 [helm]=helm.sh/helm/v3/cmd/helm)
all=(etcd kube-apiserver kubectl helm kube-controller-manager kube-scheduler kubelet)
programs=("$@")
[ $# -gt 0 ] || programs=("${all[@]}")
cache=${JANUSD_KUBE_CACHE:-$HOME/.cache/janusd/kube/bin}

# version MODULE PATH: as test/kube/MODULE/go.mod pins it.
version() {
  awk -v path="$2" '$1 == "require" && $2 == path { print $3 }' "$1/go.mod"
}
kubernetes=$(version kubernetes k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${kubernetes#v}"
helm=helm.sh/helm/v3
declare -A flags=(
  [kubernetes]="-X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/component-base/version.gitMajor=$major -X k8s.io/component-base/version.gitMinor=$minor"
  [helm]="-X $helm/internal/version.version=$(version helm $helm)"
)
# Without a cluster, helm renders and lints for this Kubernetes.
for of in pkg/chartutil pkg/lint/rules; do
  flags[helm]+=" -X $helm/$of.k8sVersionMajor=$major -X $helm/$of.k8sVersionMinor=$minor"
done

missing=()
for program in "${programs[@]}"; do
  case " ${all[*]} " in
    *" $program "*) [ -x "$cache/$program" ] || missing+=("$program") ;;
    *) echo "janusd: kube.sh builds ${all[*]}; not \"$program\"" >&2 && exit 2 ;;
  esac
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v go >/dev/null; then
  echo "janusd: Go 1.24 or newer is needed to build ${missing[*]}: there is no go on the PATH (https://go.dev/dl)" >&2
  exit 1
fi
echo "building ${missing[*]} into $cache: the first time, all of them take some 20 minutes on two cores, and 4 GB"
mkdir -p "$cache"
for program in "${missing[@]}"; do
  from=${module[$program]:-kubernetes}
  SECONDS=0
  # Renamed into place: a build that was interrupted leaves nothing that looks like one.
  (cd "$from" && nice go build -trimpath -ldflags "-s -w ${flags[$from]}" \
    -o "$cache/.$program.new" "${package[$program]:-k8s.io/kubernetes/cmd/$program}")
  mv "$cache/.$program.new" "$cache/$program"
  echo "$program: $SECONDS s, $(($(stat -c %s "$cache/$program") >> 20)) MiB"
done
