/**
 * The pods of nodes whose daemon is silent: only who writes the guards' status can say what a guard selects there. Followed
 * while they are silent.
 */
import type { Collection } from "./collection.js";
import { isSelected } from "./desired.js";
import type { NodeGuard } from "./node-status.js";
import type { SeenPod } from "./pod.js";
import type { ReadResource } from "./resource.js";
import type { Labels } from "./selector.js";

/** Each costs a watch. Of more silent nodes it counts what their daemons said last. */
const NODES_LIMIT = 100;

type PodsOfNode = Pick<Collection<SeenPod>, "start" | "close" | "synced" | "failure" | "items">;

export class SilentPods {
  readonly #open: (node: string) => PodsOfNode;
  readonly #nodes = new Map<string, PodsOfNode>();

  /** `open`: the pods of that node, not started. */
  constructor(open: (node: string) => PodsOfNode) {
    this.#open = open;
  }

  /** Of these nodes from now on, and of no others. */
  follow(silent: ReadonlySet<string>): void {
    for (const [node, pods] of this.#nodes) {
      if (silent.has(node)) continue;
      pods.close();
      this.#nodes.delete(node);
    }
    for (const node of silent) {
      if (this.#nodes.size >= NODES_LIMIT) return;
      if (this.#nodes.has(node)) continue;
      const pods = this.#open(node);
      this.#nodes.set(node, pods);
      pods.start();
    }
  }

  /** Those that can be had are known. */
  get settled(): boolean {
    return [...this.#nodes.values()].every(({ synced, failure }) => synced || failure !== undefined);
  }

  /** Of that node. Undefined: they are not known, or not yet. */
  of(node: string): readonly SeenPod[] | undefined {
    const pods = this.#nodes.get(node);
    return pods?.synced ? [...pods.items].filter(({ over }) => !over) : undefined;
  }

  close(): void {
    this.follow(new Set());
  }
}

/**
 * What a node's daemon would say of the guard, if it were heard. `said`: what it said last, which counts where more isn't
 * known. Undefined: the guard selects nothing there.
 */
export function silentReport(
  { guard, namespace, name, uid, generation }: ReadResource,
  pods: readonly SeenPod[] | undefined,
  namespaces: ReadonlyMap<string, Labels>,
  said: NodeGuard | undefined,
): NodeGuard | undefined {
  if (guard === undefined || pods === undefined) return said;
  const selected = pods.map((pod) => isSelected(guard, pod, namespaces));
  if (selected.includes(undefined)) return said;
  const observablePods = selected.filter(Boolean).length;
  if (observablePods === 0) return undefined;
  return {
    ...{ namespace, name, uid, observablePods, observedGeneration: generation, enforcedGeneration: generation },
    ...{ guardedPods: 0, containers: 0, ready: false, reason: "", message: "" },
  };
}
