/**
 * From a guard and the containers it was resolved to, to what the engine
 * enforces: one native subject for each container and subject.
 *
 * There may be very many of these. So each keeps what tells it from others, and what is asked for rarely is made then.
 */
import { createHash } from "node:crypto";
import type { ContainerInfo, NativeGuard } from "../native.js";
import type { SubjectContext } from "../subject.js";
import type { Guard, Subject } from "./guard.js";

/** A container of the guard that runs now. */
export interface LiveContainer {
  readonly info: Pick<ContainerInfo, "id" | "cgroupId" | "initPid">;
  /** In the pod; "" = not told. */
  readonly name: string;
}

/** One subject on one container. */
export interface CompiledSubject {
  readonly id: number;
  readonly guard: Guard;
  readonly subject: Subject;
  /** Of `guard.subjects`. */
  readonly subjectIndex: number;
  readonly container: LiveContainer;
  /** A digest of all but the id: unique in its guard, and the same after a restart while the container is. */
  readonly signature: string;
}

/**
 * `idOf` finds the id for a subject by its signature: the one that it already
 * has, or a new one.
 */
export function compileGuard(
  guard: Guard,
  containers: readonly LiveContainer[],
  node: string,
  idOf: (signature: string) => number,
): CompiledSubject[] {
  // State files that are older than modes have ids by what is digested without one.
  const marked = guard.mode === "enforce" ? [] : [guard.mode];
  return containers.flatMap((container) =>
    guard.subjects.map((subject, subjectIndex) => {
      const on = { guard, subject, subjectIndex, container };
      const signature = createHash("sha256")
        .update(JSON.stringify([policyOf(subject), aboutSubject(on, node), String(container.info.cgroupId), ...marked]))
        .digest("base64url");
      return { ...on, id: idOf(signature), signature };
    }),
  );
}

/** What sinks are told about the events of a subject. `node`: for a guard that names none. */
export function contextOf(subject: CompiledSubject, node: string): SubjectContext {
  return { id: subject.id, ...aboutSubject(subject, node), mode: subject.guard.mode };
}

function aboutSubject(
  { guard, subject, subjectIndex, container }: Omit<CompiledSubject, "id" | "signature">,
  node: string,
) {
  return {
    guard: guard.name,
    subjectIndex,
    tags: subject.tags,
    node: guard.nodeName || node,
    pod: guard.podName,
    namespace: guard.namespace,
    podUid: guard.podUid,
    containerId: container.info.id,
    containerName: container.name,
    logFormat: guard.logFormat,
  };
}

function policyOf({ tags: _, ...policy }: Subject) {
  return policy;
}

/** `partial`: see NativeGuard. */
export function nativeGuard(
  key: number,
  guard: Guard,
  subjects: readonly CompiledSubject[],
  partial: boolean,
): NativeGuard {
  return {
    key,
    policies: guard.subjects.map((subject) => ({ ...policyOf(subject), enforced: guard.mode === "enforce" })),
    subjects: subjects.map(({ id, subjectIndex, container }) => ({
      id,
      containerId: container.info.id,
      policy: subjectIndex,
    })),
    partial,
  };
}
