//go:build tools

// What scripts/kube.sh builds.
package helm

import _ "helm.sh/helm/v3/cmd/helm"
