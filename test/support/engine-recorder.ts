/**
 * Writes down what the registry asks of an engine. Only for what has nothing
 * to do with the kernel: order, idempotency, bookkeeping.
 */

import type { Log } from "../../src/log.js";
import type {
  ContainerInfo,
  ContainerSummary,
  DecisionCount,
  Engine,
  Explanation,
  JudgedPast,
  NativeErrorCode,
  NativeGuard,
  PathNote,
  ProcessSummary,
  Rehearsal,
  RehearsalTables,
} from "../../src/native.js";

export class EngineRecorder
  implements
    Pick<
      Engine,
      | "findContainer"
      | "missingContainers"
      | "listContainers"
      | "listProcesses"
      | "explain"
      | "rehearse"
      | "judgePast"
      | "apply"
      | "remove"
      | "retry"
      | "pathNotes"
    >
{
  readonly decisions: DecisionCount[] = [];
  /** `apply KEY IDS` and `remove KEY`, in order. */
  readonly calls: string[] = [];
  readonly applied = new Map<number, NativeGuard>();
  readonly #running = new Map<string, ContainerInfo>();
  #nextPid = 100;
  #refusal: Error | undefined;

  run(id: string): ContainerInfo {
    const initPid = this.#nextPid++;
    const info = { id, cgroupId: BigInt(initPid), cgroupPath: `/${id}`, initPid, pids: [initPid] };
    this.#running.set(id, info);
    return info;
  }

  end(id: string): void {
    this.#running.delete(id);
  }

  /** The next apply throws this. */
  refuse(code: NativeErrorCode, details: object = {}): void {
    this.#refusal = nativeError(code, details);
  }

  /** What explain() says but for the container. */
  explanation: Omit<Explanation, "container"> = {
    ...{ seen: "/", exists: true, directory: true, symlink: false, links: 1, fileSystem: "overlay" },
    ...{ judgedAs: [], rules: [], verdicts: [] },
    cover: { identity: false, superblock: false, mount: false, told: false, ignored: false, never: "" },
  };

  explain(id: string, path: string, kind: number, pid: number): Explanation {
    this.calls.push(`explain ${path} ${kind} ${pid}`);
    return { ...this.explanation, container: this.findContainer(id).id };
  }

  rehearse(guard: NativeGuard): Rehearsal {
    this.calls.push(`rehearse ${guard.subjects.map(({ containerId }) => containerId)}`);
    const tables: RehearsalTables = Object.create(null);
    return { tables, faults: [] };
  }

  judgePast(): JudgedPast | undefined {
    return undefined;
  }

  /** How often somebody looked for a container. */
  finds = 0;

  findContainer(id: string): ContainerInfo {
    this.finds++;
    const found = [...this.#running.values()].filter(
      (info) => info.id === id || (id.length === 12 && info.id.startsWith(id)),
    );
    if (found.length > 1) throw nativeError("AMBIGUOUS");
    if (found[0] === undefined) throw nativeError("NOT_FOUND", { target: id });
    return found[0];
  }

  /** How often somebody looked for containers that don't run yet. */
  looks = 0;

  missingContainers(ids: readonly string[]): string[] {
    this.looks++;
    return ids.filter((id) => !this.#running.has(id));
  }

  listContainers(): ContainerSummary[] {
    return [...this.#running.values()].map(({ id, cgroupPath, initPid }) => {
      return { id, cgroupPath, hierarchy: initPid % 2, firstPid: initPid, startedMs: initPid * 1000, processes: 1 };
    });
  }

  listProcesses(id: string): ProcessSummary[] {
    const { initPid } = this.findContainer(id);
    return ["init", "child", "other"].map((comm, index) => ({
      pid: initPid + index,
      ppid: index,
      uid: 0,
      startedMs: 1500,
      mountNamespace: 2n ** 40n,
      comm,
      executable: `/bin/${comm}`,
      init: comm === "init",
      child: comm === "child",
    }));
  }

  stats(): { decisions: DecisionCount[] } {
    return { decisions: this.decisions };
  }

  apply(guards: readonly NativeGuard[]): void {
    for (const { key, subjects } of guards) this.calls.push(`apply ${key} ${subjects.map(({ id }) => id).join(",")}`);
    const refusal = this.#refusal;
    this.#refusal = undefined;
    if (refusal !== undefined) throw refusal;
    for (const guard of guards) this.applied.set(guard.key, guard);
  }

  /** What the engine would say of its guards' paths. */
  readonly notes: PathNote[] = [];

  pathNotes(key: number): PathNote[] {
    const ids = new Set(this.applied.get(key)?.subjects.map(({ id }) => id));
    return this.notes.filter(({ subjectId }) => ids.has(subjectId));
  }

  retry(key: number): void {
    this.calls.push(`retry ${key}`);
  }

  remove(key: number): boolean {
    this.calls.push(`remove ${key}`);
    return this.applied.delete(key);
  }

  /** The calls since the last time. */
  take(): string[] {
    return this.calls.splice(0);
  }
}

export function nativeError(code: NativeErrorCode, details: object = {}): Error {
  return Object.assign(new Error(`native ${code}`), { code, ...details });
}

/** Collects messages. */
export class LogRecorder implements Log {
  readonly messages: string[] = [];
  /** The same, with what each is about. */
  readonly entries: object[] = [];
  readonly #writer =
    (level: string) =>
    (about: object, message: string): void => {
      this.messages.push(message);
      this.entries.push({ level, message, ...about });
    };
  readonly debug = this.#writer("debug");
  readonly info = this.#writer("info");
  readonly warn = this.#writer("warn");
  readonly error = this.#writer("error");
}
