/** What becomes of a guard in the whole cluster, by what its nodes say (deploy/crds/status.ts). Pure. */
import { type Condition, conditionOf, type NodeGuard } from "./node-status.js";
import { type ReadResource, textOf } from "./resource.js";

export interface GuardStatus {
  readonly observedGeneration: number;
  readonly enforcedGeneration: number;
  readonly observablePods: number;
  readonly guardedPods: number;
  readonly conditions: readonly Condition[];
}

/** What a node says of one guard. */
export interface NodeReport {
  readonly node: string;
  readonly guard: NodeGuard;
  /** Its daemon is not heard of any more: what it said last holds no longer. */
  readonly isSilent: boolean;
}

/** `isNew`: nodes that select pods may not have said so yet. */
export function guardStatus(
  resource: ReadResource,
  reports: readonly NodeReport[],
  isNew: boolean,
  now: string,
): GuardStatus {
  const { generation, faults } = resource;
  const silent = reports.filter(({ isSilent }) => isSilent);
  const heard = reports.filter(({ isSilent }) => !isSilent);
  const sumOf = (of: readonly NodeReport[], count: "observablePods" | "guardedPods"): number =>
    of.reduce((sum, { guard }) => sum + guard[count], 0);
  const wrong = heard.filter(({ guard }) => guard.reason === "Invalid" || guard.reason === "CannotHold");
  const waiting = heard.filter(({ guard }) => !guard.ready || guard.observedGeneration !== generation);
  const [gone] = silent;
  const [first] = wrong;
  const degraded =
    faults.length > 0
      ? { reason: "Invalid", message: `${textOf(faults)}; the last version that made sense stays enforced` }
      : gone
        ? { reason: "NodeSilent", message: `node ${gone.node}: ${SILENT}${others(silent.length, "node")}` }
        : first && { reason: first.guard.reason, message: `${said(first)}${others(wrong.length, "node")}` };
  const [late] = waiting;
  const unready =
    degraded ??
    (late && { reason: "Waiting", message: `${said(late)}${others(waiting.length, "node")}` }) ??
    (isNew ? { reason: "Progressing", message: "nodes are taking it up" } : undefined);
  const before = isStatus(resource.status) ? resource.status : undefined;
  const conditions = [
    conditionOf("Ready", unready === undefined, "Guarded", before, now, unready ?? NOTHING),
    // The other way round: it is bad news if it holds.
    inverted(conditionOf("Degraded", degraded === undefined, "AsSpecified", inverse(before), now, degraded ?? NOTHING)),
  ];
  const enforced = heard.map(({ guard }) => guard.enforcedGeneration);
  return {
    observedGeneration: generation,
    enforcedGeneration: Math.min(...enforced, generation),
    observablePods: sumOf(reports, "observablePods"),
    guardedPods: sumOf(heard, "guardedPods"),
    conditions: conditions.map((condition) => ({ ...condition, observedGeneration: generation })),
  };
}

const SILENT = "its daemon is not heard of any more: nothing is guarded there";

const NOTHING = { reason: "", message: "" };

function said({ node, guard }: NodeReport): string {
  return `node ${node}: ${guard.message === "" ? "has not seen it yet" : guard.message}`;
}

function others(count: number, what: string): string {
  return count > 1 ? ` (and ${count - 1} more ${what}${count > 2 ? "s" : ""})` : "";
}

function inverted(condition: Condition): Condition {
  return { ...condition, status: condition.status === "True" ? "False" : "True" };
}

function inverse(status: { readonly conditions?: readonly Condition[] } | undefined) {
  return status && { conditions: (status.conditions ?? []).map(inverted) };
}

function isStatus(status: unknown): status is { readonly conditions?: readonly Condition[] } {
  return (
    typeof status === "object" &&
    status !== null &&
    (!("conditions" in status) || (Array.isArray(status.conditions) && status.conditions.every(isCondition)))
  );
}

function isCondition(condition: unknown): condition is Condition {
  return typeof condition === "object" && condition !== null && "type" in condition && "status" in condition;
}

/** Whether the resource says so already. */
export function isWritten({ status }: ReadResource, next: GuardStatus): boolean {
  return JSON.stringify(canonical(status)) === JSON.stringify(canonical(next));
}

/** Whatever the order of its fields. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, each]) => [key, canonical(each)]));
}
