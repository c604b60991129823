/** What a node's daemon says of itself: the status of its JanusNode (deploy/crds/status.ts). */
import type { Coverage, ResourceOutcome } from "./reconcile.js";
import { textOf } from "./resource.js";

/** What is known of the daemon. */
export interface NodeFacts {
  readonly version: string;
  readonly commit: string;
  readonly startedMs: number;
  readonly holdTier: string;
  readonly features: Readonly<Record<string, { readonly works: boolean }>>;
  readonly exposure: Readonly<Record<string, number>>;
  readonly ready: boolean;
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string }[];
}

export interface Condition {
  readonly type: string;
  readonly status: "True" | "False";
  readonly observedGeneration?: number;
  readonly lastTransitionTime: string;
  readonly reason: string;
  readonly message: string;
}

export interface NodeGuard {
  /** "": a ClusterJanusGuard. */
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly observedGeneration: number;
  readonly enforcedGeneration: number;
  readonly observablePods: number;
  readonly guardedPods: number;
  readonly containers: number;
  readonly ready: boolean;
  readonly reason: string;
  readonly message: string;
}

export interface NodeStatus {
  readonly version: string;
  readonly startedAt: string;
  readonly lastChange: string;
  /** When it was written: again and again, while the daemon runs. */
  readonly heartbeat: string;
  readonly holdTier: string;
  readonly features: Readonly<Record<string, boolean>>;
  readonly exposure: Readonly<Record<string, number>>;
  readonly containers: Coverage;
  readonly guards: readonly NodeGuard[];
  readonly conditions: readonly Condition[];
}

/** Longer ones are cut: an object has a limit, and may have many guards. */
const MESSAGE_LIMIT = 1024;

/** `before`: as it was said last; what has not changed keeps its times. */
export function nodeStatus(
  facts: NodeFacts,
  outcomes: readonly ResourceOutcome[],
  containers: Coverage,
  before: NodeStatus | undefined,
  now: string,
): NodeStatus {
  const failed = facts.checks.filter(({ ok }) => !ok);
  const ready = conditionOf("Ready", facts.ready, "Proven", before, now, {
    reason: "Unproven",
    message: failed.map(({ name, detail }) => `${name}: ${detail}`).join("; "),
  });
  const next: NodeStatus = {
    version: `${facts.version} (${facts.commit})`,
    startedAt: new Date(facts.startedMs).toISOString(),
    lastChange: now,
    heartbeat: now,
    holdTier: facts.holdTier,
    features: Object.fromEntries(Object.entries(facts.features).map(([feature, { works }]) => [feature, works])),
    exposure: facts.exposure,
    containers,
    guards: outcomes.filter(isWorthTelling).map(guardOf),
    conditions: [ready],
  };
  return before !== undefined && sameBut(next, before) ? { ...next, lastChange: before.lastChange } : next;
}

/** Whether only counters and the heartbeat differ; also those that a message holds, such as for how long something stands still. */
export function sameBut(a: NodeStatus, b: NodeStatus): boolean {
  const textOfStatus = ({ exposure: _, lastChange: __, heartbeat: ___, conditions, ...rest }: NodeStatus): string =>
    JSON.stringify([rest, conditions.map((each) => ({ ...each, message: each.message.replace(/\d+/g, "#") }))]);
  return textOfStatus(a) === textOfStatus(b);
}

/** `lastTransitionTime` is `before`'s, of the same type, if the status is. */
export function conditionOf(
  type: string,
  holds: boolean,
  reason: string,
  before: { readonly conditions?: readonly Condition[] } | undefined,
  now: string,
  otherwise: { readonly reason: string; readonly message: string },
): Condition {
  const status = holds ? "True" : "False";
  const last = before?.conditions?.find((condition) => condition.type === type);
  const lastTransitionTime = last?.status === status ? last.lastTransitionTime : now;
  const said = holds ? { reason, message: "" } : otherwise;
  return { type, status, lastTransitionTime, reason: said.reason, message: cut(said.message) };
}

export function cut(message: string): string {
  return message.length <= MESSAGE_LIMIT ? message : `${message.slice(0, MESSAGE_LIMIT - 3)}...`;
}

function isWorthTelling({ selectedPods, faults }: ResourceOutcome): boolean {
  return selectedPods > 0 || faults.length > 0;
}

function guardOf(outcome: ResourceOutcome): NodeGuard {
  const { namespace, name, uid, generation, enforced, selectedPods, guardedPods, containers, faults } = outcome;
  const isCurrent = enforced === generation && faults.length === 0;
  const reason = !isCurrent
    ? enforced === generation
      ? "CannotHold"
      : "Invalid"
    : guardedPods < selectedPods
      ? "Waiting"
      : "";
  const waiting = `${selectedPods - guardedPods} of ${selectedPods} pods have no containers that run, or not all guards yet`;
  return {
    ...{ namespace, name, uid, containers, guardedPods },
    observedGeneration: generation,
    enforcedGeneration: enforced,
    observablePods: selectedPods,
    ready: reason === "",
    reason,
    message: cut(reason === "Waiting" ? waiting : textOf(faults)),
  };
}
