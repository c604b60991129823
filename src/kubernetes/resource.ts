/**
 * JanusGuard and ClusterJanusGuard, as the API server has them: read once, at the edge, by what reads guard files. The
 * API server's schema has refused most of what makes no sense; the rest is refused here, with its field.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { JanusdConfigSchema } from "../gen/janus_pb.js";
import { check, Fields, fieldOf, type Refuse, readPolicy } from "../guard/document.js";
import type { ResourceKind } from "../guard/registry.js";
import { readSelector, type Selector } from "./selector.js";

/** What is wrong with a resource. */
export interface Fault {
  /** `spec.subjects[0].deny[1]`. */
  readonly field: string;
  readonly description: string;
}

/** What a resource is called. */
export interface ResourceName {
  readonly kind: ResourceKind;
  /** "": a ClusterJanusGuard. */
  readonly namespace: string;
  readonly name: string;
}

export type Policy = Pick<MessageInitShape<typeof JanusdConfigSchema>, "subject" | "logFormat" | "mode">;

/** A resource that makes sense. */
export interface GuardResource extends ResourceName {
  readonly uid: string;
  readonly generation: number;
  readonly selector: Selector;
  /** Undefined: every namespace, or, of a JanusGuard, its own. */
  readonly namespaceSelector: Selector | undefined;
  /** By its name in the pod. */
  readonly selectsContainer: (name: string) => boolean;
  readonly policy: Policy;
  /** As the API server has it. */
  readonly spec: unknown;
}

/** A resource as it was read: `guard`, or `faults`. */
export interface ReadResource extends ResourceName {
  readonly uid: string;
  readonly generation: number;
  readonly guard: GuardResource | undefined;
  readonly faults: readonly Fault[];
  /** As some daemon wrote it. */
  readonly status: unknown;
}

/** What the API server says of each object. */
export interface ApiObject {
  readonly metadata?: {
    readonly name?: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly generation?: number;
  };
  readonly spec?: unknown;
  readonly status?: unknown;
}

export function readResource(kind: ResourceKind, { metadata = {}, spec, status }: ApiObject): ReadResource {
  const { name = "", namespace = "", uid = "", generation = 0 } = metadata;
  const about = { kind, namespace, name, uid, generation };
  const faults: Fault[] = [];
  const refuse: Refuse = (path, description) => faults.push({ field: fieldOf(path), description });
  const fields = new Fields(spec, ["spec"], refuse);

  const selector = readSelector(fields.value("selector") ?? {}, ["spec", "selector"], refuse);
  if (!fields.has("selector")) refuse(["spec", "selector"], "is missing; {} selects every pod");
  const namespaceSelector = kind === "ClusterJanusGuard" ? readNamespaces(fields, refuse) : undefined;
  const containers = fields.mapping("containers");
  const [include, exclude] = [new Set(containers.texts("include")), new Set(containers.texts("exclude"))];
  containers.done();
  const policy = readPolicy(fields, refuse);
  fields.done();
  // Names and containers are the pods': what stands for them here is never refused.
  if (faults.length === 0) check(create(JanusdConfigSchema, { ...policy, podName: "pod", cid: ["container"] }), refuse);
  if (faults.length > 0) return { ...about, guard: undefined, faults, status };

  const selectsContainer = (container: string): boolean =>
    (include.size === 0 || include.has(container)) && !exclude.has(container);
  return { ...about, guard: { ...about, selector, namespaceSelector, selectsContainer, policy, spec }, faults, status };
}

/** Undefined: every namespace, whose labels need not be known then. */
function readNamespaces(spec: Fields, refuse: Refuse): Selector | undefined {
  const content = spec.value("namespaceSelector");
  if (content === undefined) refuse(["spec", "namespaceSelector"], "is missing; {} selects every namespace");
  const selector = readSelector(content ?? {}, ["spec", "namespaceSelector"], refuse);
  const saysNothing = typeof content === "object" && content !== null && Object.keys(content).length === 0;
  return saysNothing ? undefined : selector;
}

/** How a resource is named in what is printed. */
export function nameOf({ kind, namespace, name }: ResourceName): string {
  return `${kind} ${namespace === "" ? name : `${namespace}/${name}`}`;
}

export function textOf(faults: readonly Fault[]): string {
  return faults.map(({ field, description }) => (field === "" ? description : `${field}: ${description}`)).join("; ");
}
