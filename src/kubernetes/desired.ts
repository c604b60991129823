/**
 * What this node has to hold, by what Kubernetes says: a guard for each resource and each pod that it selects. Pure: it
 * looks at nothing but its arguments.
 */
import { create } from "@bufbuild/protobuf";
import { type JanusdConfig, JanusdConfigSchema } from "../gen/janus_pb.js";
import { identity } from "../guard/registry.js";
import type { GuardResource } from "./resource.js";
import type { Labels } from "./selector.js";

/** A container of a pod, whatever its kind: init, sidecar, ordinary or ephemeral. */
export interface Container {
  readonly id: string;
  /** In its pod. */
  readonly name: string;
}

export interface Pod {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Labels;
  /** Those that run, or are about to, as far as anybody said so. */
  readonly containers: readonly Container[];
}

/** A resource selects a pod. */
export interface Desired {
  /** Of the guard: identity(). */
  readonly id: string;
  readonly resource: GuardResource;
  readonly pod: Pod;
  /** Of the pod's, those that the resource selects. Perhaps none yet. */
  readonly containers: readonly Container[];
}

export interface Wishes {
  readonly desired: readonly Desired[];
  /** Guards, by identity(), of which cannot be said whether they are desired: nobody knows their namespace's labels. */
  readonly undecided: ReadonlySet<string>;
}

export interface Known {
  readonly resources: readonly GuardResource[];
  readonly pods: readonly Pod[];
  /** By the namespace's name. */
  readonly namespaces: ReadonlyMap<string, Labels>;
}

export function desiredGuards({ resources, pods, namespaces }: Known): Wishes {
  const desired: Desired[] = [];
  const undecided = new Set<string>();
  for (const resource of resources) {
    for (const pod of pods) {
      const selected = isSelected(resource, pod, namespaces);
      if (selected === undefined) undecided.add(guardId(resource, pod));
      if (!selected) continue;
      const containers = pod.containers.filter(({ name }) => resource.selectsContainer(name));
      desired.push({ id: guardId(resource, pod), resource, pod, containers });
    }
  }
  return { desired, undecided };
}

/** Undefined: it depends on a namespace's labels that are not known. */
export function isSelected(
  { kind, namespace, selector, namespaceSelector }: GuardResource,
  pod: Pod,
  namespaces: ReadonlyMap<string, Labels>,
): boolean | undefined {
  if (kind === "JanusGuard" && namespace !== pod.namespace) return false;
  if (!selector(pod.labels)) return false;
  if (namespaceSelector === undefined) return true;
  const labels = namespaces.get(pod.namespace);
  return labels && namespaceSelector(labels);
}

/** The guard's namespace is the pod's, also of a resource that has none: events tell by it where they happened. */
function guardId({ kind, name }: GuardResource, pod: Pod): string {
  return identity({ name, namespace: pod.namespace, podName: pod.name, podUid: pod.uid }, kind);
}

/** The same as long as the guard need not be changed. */
export function fingerprintOf({ resource, containers }: Desired): string {
  return JSON.stringify([resource.uid, resource.generation, containers.map(({ id, name }) => [id, name])]);
}

/** Of what has containers. */
export function configOf({ resource, pod, containers }: Desired): JanusdConfig {
  return create(JanusdConfigSchema, {
    ...resource.policy,
    name: resource.name,
    namespace: pod.namespace,
    podName: pod.name,
    podUid: pod.uid,
    cid: containers.map(({ id }) => id),
    containerNames: Object.fromEntries(containers.map(({ id, name }) => [id, name])),
  });
}
