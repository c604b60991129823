/**
 * A process that is the Kubernetes side of many daemons: all that src/kubernetes does, on the registry, with an engine
 * that only writes down what is asked of it. Forked by cluster.ts, which it tells when a guard is held.
 */
import { GuardRegistry } from "../src/guard/registry.js";
import { Cluster } from "../src/kubernetes/cluster.js";
import type { NodeFacts } from "../src/kubernetes/node-status.js";
import type { Log } from "../src/log.js";
import { EngineRecorder } from "../test/support/engine-recorder.js";

/** What the process is told at its start. */
export interface Assignment {
  readonly kubeconfig: string;
  /** How many there are in the cluster. */
  readonly guards: number;
  /** The nodes that it stands for, with the containers that run there. */
  readonly nodes: readonly { readonly name: string; readonly containers: readonly string[] }[];
}

/** What it tells. */
export type Word =
  | { readonly kind: "synced"; readonly heapBytes: number }
  | { readonly kind: "held"; readonly guard: string; readonly atMs: number }
  | { readonly kind: "failed"; readonly failure: string };

const tell = (word: Word): void => void process.send?.(word);

/** As of a machine that has all of it. */
const FACTS: NodeFacts = {
  ...{ version: "0.1.0", commit: "0".repeat(40), startedMs: Date.now(), holdTier: "fentry", ready: true, checks: [] },
  features: Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`feature_number_${index}`, { works: true }])),
  exposure: Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`exposure_number_${index}`, 0])),
};

const ignore = (): void => undefined;
const log: Log = {
  ...{ debug: ignore, info: ignore, warn: ignore }, // there is no container runtime, and it says so
  error: (about, message) => tell({ kind: "failed", failure: `${message} ${JSON.stringify(about)}` }),
};

function startDaemon(kubeconfig: string, { name, containers }: Assignment["nodes"][number]): Cluster {
  const engine = new EngineRecorder();
  for (const id of containers) engine.run(id);
  const registry = new GuardRegistry({ engine, node: name, log });
  const cluster = new Cluster({
    ...{ kubeconfig, nodeName: name, engine, log, denials: undefined, stateFile: undefined, criEndpoint: "/nowhere" },
    arrivals: { hold: ignore, release: ignore, admit: () => true },
    registry: {
      hold: (config, kind) => {
        const handle = registry.hold(config, kind);
        tell({ kind: "held", guard: config.name, atMs: Date.now() });
        return handle;
      },
      release: (id) => registry.release(id),
      ofResources: () => registry.ofResources(),
      isHeld: (id) => registry.isHeld(id),
    },
  });
  cluster.start();
  cluster.publish(() => FACTS);
  return cluster;
}

function heapBytes(): number {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

process.once("message", ({ kubeconfig, guards, nodes }: Assignment) => {
  const before = heapBytes();
  const daemons = nodes.map((node) => startDaemon(kubeconfig, node));
  const looking = setInterval(() => {
    if (daemons.some(({ outcomes }) => outcomes.length < guards)) return;
    clearInterval(looking);
    tell({ kind: "synced", heapBytes: (heapBytes() - before) / nodes.length });
  }, 500);
});
