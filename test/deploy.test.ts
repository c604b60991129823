/** The manifests parse, and say what the daemon understands and the controller looks for. */
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { DescEnum } from "@bufbuild/protobuf";
import t from "tap";
import { type Document, isMap, isSeq, parseAllDocuments } from "yaml";
import { parseConfig } from "../src/config.js";
import { GuardModeSchema, JanusdConfigSchema, JanusGuardSubjectSchema, ScopeSchema } from "../src/gen/janus_pb.js";
import { GuardFileError, parseGuardFile } from "../src/guard/file.js";
import { EVENT_MASKS } from "../src/guard/guard.js";
import { CRI_SOCKETS } from "../src/kubernetes/cri.js";
import { LOG_FORMAT_SPECIFIERS } from "../src/log-format.js";

function manifest(name: string): Document[] {
  const text = readFileSync(new URL(`../deploy/${name}`, import.meta.url), "utf8");
  const documents = [...parseAllDocuments(text)];
  for (const problem of documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])) throw problem;
  return documents;
}

type Path = readonly (string | number)[];

function keysAt(document: Document | undefined, path: Path): string[] {
  const node = document?.getIn(path, true);
  return isMap(node) ? node.items.map(({ key }) => String(key)) : [];
}

function textsAt(document: Document | undefined, path: Path): string[] {
  const node = document?.getIn(path, true);
  return isSeq(node) ? node.items.map(String) : [];
}

/** As the resource spells them. */
function enumNames({ values }: DescEnum, prefix: string): string[] {
  return values.map(({ name }) => name.slice(prefix.length).toLowerCase());
}

/** The fields below a schema that have no description. */
function undescribed(schema: unknown, at = ""): string[] {
  if (!isMap(schema)) return [];
  const properties = schema.get("properties");
  const below = isMap(properties) ? properties.items : [];
  const inItems = undescribed(schema.get("items"), `${at}[]`);
  const inFields = below.flatMap(({ key, value }) => {
    const field = `${at}.${key}`;
    const bare = isMap(value) && !value.has("description") && !/^.(apiVersion|kind|metadata)$/.test(field);
    return [...(bare ? [field] : []), ...undescribed(value, field)];
  });
  return [...inItems, ...inFields];
}

/** What a guard file's subject can hold: it refuses an unknown field, and lists the known ones. */
function knownFields(): string[] {
  const text =
    "{apiVersion: januscontroller.clustergarage.io/v1alpha1, kind: JanusGuard, metadata: {name: a}, " +
    "spec: {containers: [a], subjects: [{deny: [/a], events: [open], unheardOf: 1}]}}";
  try {
    parseGuardFile(text);
  } catch (error) {
    if (error instanceof GuardFileError) return /known are (.*)/.exec(error.message)?.[1]?.split(", ") ?? [];
    throw error;
  }
  return [];
}

t.test("the resources have every field and event that a request and a guard file have", async (t) => {
  for (const [index, kind] of ["JanusGuard", "ClusterJanusGuard"].entries()) {
    const crd = manifest("crd.yaml")[index];
    t.equal(crd?.getIn(["spec", "names", "kind"]), kind);
    const spec = ["spec", "versions", 0, "schema", "openAPIV3Schema", "properties", "spec", "properties"];
    const subject = [...spec, "subjects", "items", "properties"];
    const fields = keysAt(crd, subject).sort();
    t.same(fields, knownFields().sort());
    // What the daemon is told over gRPC: a field of the contract that the resource lacks could never be used.
    const renamed = (name: string) => (name === "event" ? "events" : name);
    t.same(fields, JanusGuardSubjectSchema.fields.map(({ name }) => renamed(name)).sort());
    t.same(textsAt(crd, [...subject, "events", "items", "enum"]), [...EVENT_MASKS.keys()]);
    t.same(textsAt(crd, [...subject, "scope", "enum"]), enumNames(ScopeSchema, "SCOPE_"));
    t.same(textsAt(crd, [...spec, "mode", "enum"]), enumNames(GuardModeSchema, "GUARD_MODE_"));

    const told = keysAt(crd, spec);
    // Found by the selectors, or the daemon's own; the resource's metadata has its name.
    const found = ["name", "namespace", "nodeName", "podName", "podUid", "pid", "cid", "containerNames"];
    const settable = JanusdConfigSchema.fields.map(({ name }) => name).filter((name) => !found.includes(name));
    t.same(settable.sort(), ["logFormat", "mode", "subject"]);
    for (const name of settable) t.ok(told.includes(name === "subject" ? "subjects" : name), name);
  }
});

t.test("each field of the resources says what it is for", async (t) => {
  for (const crd of manifest("crd.yaml")) {
    const schema = ["spec", "versions", 0, "schema", "openAPIV3Schema"];
    t.same(undescribed(crd.getIn(schema, true)), [], String(crd.getIn(["metadata", "name"])));
  }
});

t.test("a log format's specifiers are those that the daemon knows", async (t) => {
  const [crd] = manifest("crd.yaml");
  const format = ["spec", "versions", 0, "schema", "openAPIV3Schema", "properties", "spec", "properties", "logFormat"];
  const rule = String(crd?.getIn([...format, "x-kubernetes-validations", 0, "rule"]));
  const known = /\(([A-Za-z0-9|]+)\)/.exec(rule)?.[1]?.split("|") ?? [];
  t.same(known, [...LOG_FORMAT_SPECIFIERS]);
});

/** Of a manifest: the only resource of this kind. */
function ofKind(name: string, kind: string): Document | undefined {
  return manifest(name).find((document) => document.get("kind") === kind);
}

const CONTAINER: Path = ["spec", "template", "spec", "containers", 0];

/** Where the daemon's container mounts each volume. */
function mounts(daemonSet: Document | undefined): ReadonlyMap<string, string> {
  const node = daemonSet?.getIn([...CONTAINER, "volumeMounts"], true);
  const items = isSeq(node) ? node.items.filter(isMap) : [];
  return new Map(items.map((item) => [String(item.get("name")), String(item.get("mountPath"))]));
}

t.test("the daemons start with these arguments", async (t) => {
  for (const name of ["janusd.yaml", "janusd-controller.yaml"]) {
    const daemonSet = ofKind(name, "DaemonSet");
    const config = parseConfig(textsAt(daemonSet, [...CONTAINER, "args"]), {}, "0");
    t.match(config.listen[0], { path: "/run/janusd/janusd.sock" });
    t.match(config.stateFile, `${mounts(daemonSet).get("state")}/`);
    t.equal(mounts(daemonSet).get("run"), "/run/janusd", "where janusctl looks for the socket: the root is read-only");
    const http = [0, 1].find((at) => daemonSet?.getIn([...CONTAINER, "ports", at, "name"]) === "http");
    const port = daemonSet?.getIn([...CONTAINER, "ports", http ?? 0, "containerPort"]);
    t.same(config.http, { host: "::", port });
    t.equal(ofKind(name, "Namespace")?.getIn(["metadata", "name"]), "janus");
  }
});

t.test("with guards from the cluster: the container runtime's sockets are where the daemon looks", async (t) => {
  const daemonSet = ofKind("janusd.yaml", "DaemonSet");
  const config = parseConfig(textsAt(daemonSet, [...CONTAINER, "args"]), {}, "0");
  t.match(config.kubernetes, { kubeconfig: undefined, criEndpoint: undefined });
  const mounted = [...mounts(daemonSet).values()];
  // cri-dockerd's is in /run itself: whoever has it says so to the chart.
  const directories = CRI_SOCKETS.map((socket) => dirname(socket)).filter((directory) => directory !== "/run");
  t.same(directories, ["/run/containerd", "/run/crio"]);
  for (const directory of directories) t.ok(mounted.includes(directory), directory);
  t.equal(config.tls, undefined);
});

t.test("the original controller finds the daemons", async (t) => {
  const daemonSet = ofKind("janusd-controller.yaml", "DaemonSet");
  const service = ofKind("janusd-controller.yaml", "Service");
  const config = parseConfig(textsAt(daemonSet, [...CONTAINER, "args"]), {}, "0");
  t.ok(config.tls);
  t.equal(config.kubernetes, undefined);
  const port = daemonSet?.getIn([...CONTAINER, "ports", 0, "containerPort"]);
  t.same(config.listen[1], { host: "::", port });
  t.equal(service?.getIn(["metadata", "name"]), "janusd-svc");
  t.equal(service?.getIn(["spec", "clusterIP"]), "None");
  t.equal(service?.getIn(["spec", "ports", 0, "name"]), "grpc");
  t.equal(service?.getIn(["spec", "selector", "daemon"]), "janusd");
  t.equal(daemonSet?.getIn(["spec", "template", "metadata", "labels", "daemon"]), "janusd");
});

t.test("the recipes for log shippers look where the DaemonSet's pods log", async (t) => {
  const daemonSet = ofKind("janusd.yaml", "DaemonSet");
  const text = (path: Path) => String(daemonSet?.getIn(path));
  const template = ["spec", "template"];
  const [vector] = manifest("logging/vector.yaml");
  const selector = `daemon=${text([...template, "metadata", "labels", "daemon"])}`;
  t.equal(vector?.getIn(["sources", "janusd", "extra_label_selector"]), selector);
  const [fluentBit] = manifest("logging/fluent-bit.yaml");
  const [namespace, name] = [text(["metadata", "namespace"]), text(["metadata", "name"])];
  const container = text([...template, "spec", "containers", 0, "name"]);
  const logs = `/var/log/containers/${name}-*_${namespace}_${container}-*.log`;
  t.equal(fluentBit?.getIn(["pipeline", "inputs", 0, "path"]), logs);
});
