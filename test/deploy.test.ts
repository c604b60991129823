/** The manifests parse, and say what the daemon understands and the controller looks for. */
import { readFileSync } from "node:fs";
import t from "tap";
import { type Document, isMap, isSeq, parseAllDocuments } from "yaml";
import { parseConfig } from "../src/config.js";
import { GuardFileError, parseGuardFile } from "../src/guard/file.js";
import { EVENT_MASKS } from "../src/guard/guard.js";

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

t.test("the resource has every field and event that a guard file has", async (t) => {
  const [crd] = manifest("crd.yaml");
  const version = ["spec", "versions", 0, "schema", "openAPIV3Schema", "properties", "spec", "properties"];
  const subject = [...version, "subjects", "items", "properties"];
  const fields = keysAt(crd, subject);
  t.ok(fields.includes("deny"));
  t.same(fields.sort(), knownFields().sort());
  t.same(textsAt(crd, [...subject, "events", "items", "enum"]), [...EVENT_MASKS.keys()]);
  t.same(textsAt(crd, [...version, "mode", "enum"]), ["enforce", "audit"]);
  t.same(textsAt(crd, ["spec", "names", "shortNames"]), ["jg"]);
});

t.test("the controller finds the daemons, and they start with these arguments", async (t) => {
  const [namespace, daemonSet, service] = manifest("janusd.yaml");
  t.equal(namespace?.getIn(["metadata", "name"]), "janus");
  const container: Path = ["spec", "template", "spec", "containers", 0];
  const config = parseConfig(textsAt(daemonSet, [...container, "args"]), {}, "0");
  t.ok(config.tls);
  const ports = [0, 1].map((at) => daemonSet?.getIn([...container, "ports", at, "containerPort"]));
  t.same(config.listen, [{ path: "/run/janusd/janusd.sock" }, { host: "::", port: ports[0] }]);
  t.same(config.http, { host: "::", port: ports[1] });
  const mount = (at: number) => String(daemonSet?.getIn([...container, "volumeMounts", at, "mountPath"]));
  t.match(config.stateFile, `${mount(1)}/`);
  t.equal(mount(2), "/run/janusd", "where janusctl looks for the socket: the root file system is read-only");

  t.equal(service?.getIn(["metadata", "name"]), "janusd-svc");
  t.equal(service?.getIn(["spec", "clusterIP"]), "None");
  t.equal(service?.getIn(["spec", "ports", 0, "name"]), "grpc");
  t.equal(service?.getIn(["spec", "selector", "daemon"]), "janusd");
  t.equal(daemonSet?.getIn(["spec", "template", "metadata", "labels", "daemon"]), "janusd");
});

t.test("the recipes for log shippers look where the DaemonSet's pods log", async (t) => {
  const [, daemonSet] = manifest("janusd.yaml");
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
