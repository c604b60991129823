/** A guard as a document of a guard file: the other way round than `file.ts`. */
import { stringify } from "yaml";
import { type JanusdConfig, type JanusGuardSubject, Scope } from "../gen/janus_pb.js";
import { API_VERSION, KIND, SCOPES } from "./document.js";
import { containerId, modeOf } from "./guard.js";

/** What `readGuardFile` reads as the same guard. Without what is as it would be anyway. */
export type Resource = Readonly<Record<string, unknown>>;

/** `pid` is left out: the daemon goes by container ids. */
export function resourceOf(config: JanusdConfig): Resource {
  const { name, namespace, podName, podUid, nodeName, logFormat } = config;
  return {
    apiVersion: API_VERSION,
    kind: KIND,
    metadata: said({ name, namespace }),
    spec: said({
      ...{ podName, podUid, nodeName, logFormat, mode: modeOf(config) === "audit" ? "audit" : "" },
      containers: containersOf(config),
      subjects: config.subject.map(subjectOf),
    }),
  };
}

function containersOf({ cid, containerNames }: JanusdConfig): unknown[] {
  const names = new Map(Object.entries(containerNames).map(([key, name]) => [containerId(key), name]));
  return cid.map((id) => {
    const name = names.get(containerId(id));
    return name === undefined || name === "" ? id : { id, name };
  });
}

function subjectOf(subject: JanusGuardSubject): Resource {
  const { deny, allow, watch, exclude, event, recursive, maxDepth, onlyDir, autoAllowOwner, audit, exact } = subject;
  return said({
    ...{ deny, allow, watch, exclude, events: event, recursive, maxDepth, onlyDir, autoAllowOwner, audit, exact },
    scope: [...SCOPES].find(([, scope]) => scope === subject.scope && scope !== Scope.EVERYONE)?.[0] ?? "",
    tags: subject.tags,
  });
}

/** Without "", 0, false and what is empty. */
function said(fields: Resource): Resource {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) =>
      typeof value === "object" && value !== null ? Object.keys(value).length > 0 : Boolean(value),
    ),
  );
}

/** YAML, one document each. */
export function formatResources(resources: readonly Resource[]): string {
  return resources.map((resource) => stringify(resource, { lineWidth: 0, aliasDuplicateObjects: false })).join("---\n");
}
