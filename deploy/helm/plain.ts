/** The manifests for who has no Helm: what the chart renders. `make manifests` writes them. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";

const deploy = new URL("../", import.meta.url);

interface Manifest {
  readonly head: string;
  readonly values: readonly string[];
}

const CRD_HEAD = "Apply after crd.yaml. The image has to be where nodes can pull it: `make image`.";

const MANIFESTS: Readonly<Record<string, Manifest>> = {
  "janusd.yaml": {
    head: `janusd on every node, with guards from the cluster: JanusGuard and ClusterJanusGuard.\n${CRD_HEAD}`,
    values: [],
  },
  "janusd-controller.yaml": {
    head: [
      "janusd on every node, for the original controller, which sends the guards over gRPC.",
      CRD_HEAD,
      "A client must present a certificate that the same CA signed. The daemon's own:",
      "",
      "  kubectl -n janus create secret generic janusd-tls \\",
      "    --from-file=ca.crt --from-file=tls.crt --from-file=tls.key",
    ].join("\n"),
    values: ["kubernetes.enabled=false", "tls.mode=secret"],
  },
};

/** By the file's name in deploy/. */
export function plainManifests(helm: string): ReadonlyMap<string, string> {
  return new Map(Object.entries(MANIFESTS).map(([name, manifest]) => [name, render(helm, manifest)]));
}

function render(helm: string, { head, values }: Manifest): string {
  const set = ["namespace.create=true", "crds.install=false", ...values].map((value) => `--set=${value}`);
  const args = ["template", "janusd", new URL("helm/janusd", deploy).pathname, "--namespace=janus", ...set];
  const rendered = execFileSync(helm, args, { encoding: "utf8" })
    .split("\n")
    // Of the templates, and of releases.
    .filter((line) => !/^# Source: |^ +(helm\.sh\/chart|app\.kubernetes\.io\/managed-by): /.test(line))
    .join("\n")
    .replace(/^---\n/, "");
  const comment = head.split("\n").map((line) => `# ${line}`.trimEnd());
  return `# Rendered from deploy/helm/janusd by \`make manifests\`. Do not edit.\n#\n${comment.join("\n")}\n${rendered}`;
}

if (import.meta.main) {
  const [helm = "helm"] = process.argv.slice(2);
  for (const [name, text] of plainManifests(helm)) writeFileSync(new URL(name, deploy), text);
}
