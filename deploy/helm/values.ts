/** The chart's values: the only source of values.yaml, values.schema.json and the chart's README. */

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

type JsonSchema = { readonly [key: string]: Json };

/** A value that users set. */
export interface Value {
  readonly text: string;
  readonly default: Json;
  readonly schema: JsonSchema;
}

export interface Group {
  readonly text: string;
  readonly values: Values;
}

export interface Values {
  readonly [name: string]: Value | Group;
}

const group = (text: string, values: Values): Group => ({ text, values });
const flag = (value: boolean, text: string): Value => ({ text, default: value, schema: { type: "boolean" } });
const string = (value: string, text: string, more: JsonSchema = {}): Value => ({
  text,
  default: value,
  schema: { type: "string", ...more },
});
const integer = (value: number, text: string, minimum: number, maximum: number): Value => ({
  text,
  default: value,
  schema: { type: "integer", minimum, maximum },
});
const object = (value: { readonly [key: string]: Json }, text: string): Value => ({
  text,
  default: value,
  schema: { type: "object" },
});
const labels = (value: { readonly [key: string]: string }, text: string): Value => ({
  text,
  default: value,
  schema: { type: "object", additionalProperties: { type: "string" } },
});
const list = (value: readonly Json[], text: string, items: JsonSchema): Value => ({
  text,
  default: value,
  schema: { type: "array", items },
});

const NAME = { pattern: "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", maxLength: 253 } as const;
const OBJECTS = { type: "object" } as const;

const probe = (periodSeconds: number, failureThreshold: number, text: string): Group =>
  group(text, {
    periodSeconds: integer(periodSeconds, "Seconds between two of them.", 1, 3600),
    failureThreshold: integer(failureThreshold, "So many failures in a row count.", 1, 10_000),
  });

export const VALUES: Values = {
  image: group("The image of the daemon.", {
    repository: string("janusd", "Where the nodes pull it from.", { minLength: 1 }),
    tag: string("", "Empty: the chart's `appVersion`."),
    digest: string("", "`sha256:...`: wins over the tag.", { pattern: "^(sha256:[0-9a-f]{64})?$" }),
    pullPolicy: string("IfNotPresent", "", { enum: ["Always", "IfNotPresent", "Never"] }),
  }),
  imagePullSecrets: list([], "Secrets for a private registry: `[{name: ...}]`.", OBJECTS),
  namespace: group("The release's namespace.", {
    create: flag(
      false,
      "Have the chart make it, with the label that lets pods with `hostPID` and `hostPath` run there. `helm install --create-namespace` makes one without the label.",
    ),
  }),
  crds: group("The definitions of JanusGuard, ClusterJanusGuard and JanusNode.", {
    install: flag(true, "Installed and upgraded with the chart. `helm uninstall` leaves them, and so the guards."),
  }),
  kubernetes: group("Guards from the cluster.", {
    enabled: flag(
      true,
      "Follow `JanusGuard` and `ClusterJanusGuard` (`--kubernetes`). Off: guards come over gRPC only, and the daemon has no access to the API server.",
    ),
    events: flag(true, "Tell denials as Events on the pods (`--kubernetes-events`)."),
    criSocket: string(
      "",
      "The container runtime's socket on the node, e.g. `/run/k3s/containerd/containerd.sock`. Empty: containerd's or CRI-O's own, whichever a node has.",
      { pattern: "^(/.+)?$" },
    ),
  }),
  tls: group("gRPC over TCP, for a controller or `janusctl --address`. `janusctl` in the pod needs none of it.", {
    mode: string(
      "none",
      "`none`: only the Unix socket in the pod. `secret`: `tls.secretName` is there already. `certManager`: made by cert-manager. `selfSigned`: made by the chart once, and kept by upgrades.",
      { enum: ["none", "secret", "certManager", "selfSigned"] },
    ),
    secretName: string("janusd-tls", "With `ca.crt`, `tls.crt` and `tls.key`.", NAME),
    clientSecretName: string("janusd-client-tls", "`selfSigned`: where the certificate for clients is put.", NAME),
    allowedClients: list(
      [],
      "Who may command, by a name in the certificate; `NAME=read` may only look. Empty: each certificate of the CA.",
      { type: "string", minLength: 1 },
    ),
    days: integer(3650, "`selfSigned`: how long the certificates hold.", 1, 36_500),
    certManager: group("`certManager`.", {
      issuerRef: object({ kind: "Issuer", name: "janusd" }, "`name`, `kind` and `group` of the issuer."),
      duration: string("2160h", "How long a certificate holds.", { pattern: "^[0-9]+h$" }),
      renewBefore: string("720h", "How long before its end it is renewed.", { pattern: "^[0-9]+h$" }),
    }),
  }),
  logFormat: string("text", "Of the event log on standard output.", { enum: ["text", "json", "off"] }),
  away: string(
    "allow",
    "While no daemon is there, on nodes whose kernel denies by itself: opens in guarded containers that only a daemon could judge (`--away`).",
    { enum: ["allow", "deny"] },
  ),
  extraArgs: list([], "More flags of the daemon, e.g. `--deadline=500` (docs/configuration.md).", {
    type: "string",
    pattern: "^-",
  }),
  extraEnv: list([], "More environment variables: `[{name: ..., value: ...}]`.", OBJECTS),
  stateDirectory: string("/var/lib/janusd", "On the node: guards survive a restart of the daemon there.", {
    pattern: "^/.+",
  }),
  resources: object(
    { requests: { cpu: "100m", memory: "128Mi" } },
    "No limits on purpose: a throttled gate makes every guarded container wait, and a daemon that is killed for memory leaves the node unguarded.",
  ),
  priorityClass: group("What the scheduler and the kubelet may do to the daemon.", {
    create: flag(
      true,
      "Make a PriorityClass of the release's own: `system-node-critical` needs a quota outside kube-system on GKE.",
    ),
    name: string("janusd", "The PriorityClass that the pods have.", NAME),
    value: integer(1_000_000_000, "Its value, if it is made: the highest that users can give.", 0, 1_000_000_000),
  }),
  updateStrategy: object(
    { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
    "The new daemon guards before the old one ends: no moment is unguarded.",
  ),
  terminationGracePeriodSeconds: integer(15, "A shutdown takes up to 10 s.", 1, 3600),
  startupProbe: probe(2, 90, "`/livez`: until it answers once, nothing else is asked."),
  livenessProbe: probe(10, 3, "`/livez`: fails when only a restart helps."),
  readinessProbe: probe(5, 2, "`/readyz`: fails when anything can't be proven."),
  nodeSelector: labels({}, "Beside `kubernetes.io/os: linux`."),
  tolerations: list([{ operator: "Exists" }], "By default the daemon runs on every node.", OBJECTS),
  affinity: object({}, ""),
  podAnnotations: labels({}, ""),
  podLabels: labels({}, ""),
  serviceAccount: group("Who the daemon is for the API server.", {
    create: flag(true, ""),
    name: string("janusd", "", NAME),
    annotations: labels({}, ""),
  }),
  rbac: group("What it may do there.", {
    create: flag(true, "Role and bindings: exactly what the daemon uses."),
    nodeRestriction: flag(
      true,
      "Each daemon may write the JanusNode and the Events of its own node only (ValidatingAdmissionPolicies).",
    ),
  }),
  networkPolicy: group("Who may connect to the pods.", {
    enabled: flag(
      false,
      "Health and metrics from everywhere or `metricsFrom`, gRPC from `grpcFrom`, and nothing else.",
    ),
    metricsFrom: list([], "NetworkPolicyPeers. Empty: everywhere.", OBJECTS),
    grpcFrom: list([], "NetworkPolicyPeers. Empty: the release's namespace.", OBJECTS),
  }),
  podMonitor: group("For the Prometheus Operator.", {
    enabled: flag(false, ""),
    labels: labels({}, "Those that your Prometheus selects by."),
    interval: string("30s", "", { pattern: "^[0-9]+(ms|s|m)$" }),
  }),
  prometheusRule: group("For the Prometheus Operator: the alerts of docs/operations.md.", {
    enabled: flag(false, ""),
    labels: labels({}, "Those that your Prometheus selects by."),
  }),
  dashboard: group("The Grafana dashboard, as a ConfigMap.", {
    enabled: flag(false, ""),
    labels: labels({ grafana_dashboard: "1" }, "Those that Grafana's sidecar looks for."),
  }),
  openshift: group("OpenShift.", {
    securityContextConstraints: flag(false, "Make the SecurityContextConstraints that the pods need there."),
  }),
};
