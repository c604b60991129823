/**
 * From a guard and the containers it was resolved to, to what the engine
 * enforces: one native subject for each container and subject.
 */
import { createHash } from "node:crypto";
import type { ContainerInfo, NativeGuard, NativeSubject } from "../native.js";
import type { SubjectContext } from "../subject.js";
import type { Guard } from "./guard.js";

/** A container of the guard that runs now. */
export interface LiveContainer {
  readonly info: ContainerInfo;
  /** In the pod; "" = not told. */
  readonly name: string;
}

/** One subject on one container: what the engine gets, and what sinks are told about its events. */
export interface CompiledSubject {
  readonly native: NativeSubject;
  readonly context: SubjectContext;
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
  return containers.flatMap((container) =>
    guard.subjects.map((subject, subjectIndex) => {
      const { tags, ...policy } = subject;
      const { info, name: containerName } = container;
      const about = {
        guard: guard.name,
        subjectIndex,
        tags,
        node: guard.nodeName || node,
        pod: guard.podName,
        namespace: guard.namespace,
        podUid: guard.podUid,
        containerId: info.id,
        containerName,
        logFormat: guard.logFormat,
      };
      const signature = createHash("sha256")
        .update(JSON.stringify([policy, about, String(info.cgroupId)]))
        .digest("base64url");
      const id = idOf(signature);
      return { native: { id, containerId: info.id, ...policy }, context: { id, ...about }, signature };
    }),
  );
}

/** `partial`: see NativeGuard. */
export function nativeGuard(key: number, subjects: readonly CompiledSubject[], partial: boolean): NativeGuard {
  return { key, subjects: subjects.map(({ native }) => native), partial };
}
