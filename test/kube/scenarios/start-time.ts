/**
 * How long a pod takes from its being made in the API server to its first instruction: while nobody is held, since there
 * is no guard; while a guard is there that doesn't select it; and guarded. One pod after the other.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { guardManifest } from "../guards.js";
import { secret, startedProgram } from "../images.js";
import { podManifest } from "../pods.js";
import type { Scenario } from "../scenario.js";

/** Of each kind. */
const PODS = Number(process.env["KUBE_START_PODS"] ?? 12);
/** All kinds take turns: this machine has other work, too. */
const OF_A_TURN = 6;
const KINDS = ["no guard", "not selected", "guarded"] as const;
/** It fails what hangs, it does not measure. */
const POD_MS = 60_000;

export const startTime: Scenario = async (t, cluster, janusd) => {
  const namespace = "start";
  t.setTimeout(PODS * KINDS.length * POD_MS);
  await cluster.namespace(namespace);
  const guard = guardManifest("secrets", { app: "guarded" }, { namespace });
  const kubectl = (...args: string[]): string => cluster.api.kubectl(args);
  const noGuards = () => kubectl("get", "jg,cjg", "--all-namespaces", "--output=name") === "";
  const times = new Map<string, number[]>(KINDS.map((kind) => [kind, []]));
  const outcomes = new Set<string>();
  let pods = 0;

  const start = async (kind: string): Promise<void> => {
    const name = `pod-${pods++}`;
    const labels = { app: kind.replace(" ", "-") };
    const command = [startedProgram, secret];
    const path = `/api/v1/namespaces/${namespace}/pods`;
    const made = Date.now();
    const manifest = podManifest(name, { namespace, labels, command, spec: { restartPolicy: "Never" } });
    const { status } = await cluster.api.request("POST", path, manifest);
    t.equal(status, 201);
    await janusd.until(`${name} is done`, async () => {
      await sleep(200);
      return cluster.get("pod", name, ".status.phase", namespace) === "Succeeded";
    });
    const [at = "", outcome = ""] = kubectl("logs", name, `--namespace=${namespace}`).trim().split(/ (.*)/);
    times.get(kind)?.push(Number(at) / 1000 - made);
    outcomes.add(`${kind}: ${outcome}`);
  };

  for (let turn = 0; turn < PODS / OF_A_TURN; ++turn) {
    await janusd.until("there is no guard", noGuards);
    await sleep(1000); // until the daemon has heard of it, too
    for (let i = 0; i < OF_A_TURN; ++i) await start("no guard");
    cluster.apply(guard);
    const isReady = () => cluster.get("jg", "secrets", ".status.conditions[0].status", namespace) === "True";
    await janusd.until("the guard is there", isReady);
    for (let i = 0; i < OF_A_TURN; ++i) for (const kind of ["not selected", "guarded"]) await start(kind);
    kubectl("delete", "jg", "secrets", `--namespace=${namespace}`);
  }
  for (const [kind, all] of times) {
    const sorted = all.toSorted((a, b) => a - b);
    const at = (share: number): string => (sorted[Math.ceil(sorted.length * share) - 1] ?? 0).toFixed(0);
    t.comment(`${kind}: ${sorted.length} pods, from made to first instruction: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`);
  }
  t.same([...outcomes].sort(), ["guarded: Operation not permitted", "no guard: READ", "not selected: READ"]);
  kubectl("delete", "namespace", namespace, "--wait=false");
};
