/**
 * Which of the recorded events would have been answered otherwise under a guard that isn't held. The engine judges
 * them, by the gate's code; what other guards said of an event is in its record. Changes nothing.
 */
import { setImmediate as othersTurn } from "node:timers/promises";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { isNativeError, JanusdError } from "../errors.js";
import type { EventHistory, PastEvent } from "../event/history.js";
import { EVENT_KINDS, EXPLAINED_KINDS, RESPONSES } from "../event/layout.js";
import {
  type RehearsedEventSchema,
  type RehearseRequest,
  type RehearseResponse,
  RehearseResponseSchema,
} from "../gen/janus/v1/inspection_pb.js";
import { compileGuard, type LiveContainer, nativeGuard } from "../guard/compile.js";
import { type Guard, parseGuard } from "../guard/guard.js";
import { identity } from "../guard/registry.js";
import type { Engine, RehearsalTables } from "../native.js";
import type { SubjectContext } from "../subject.js";
import { RESPONSE } from "./event-message.js";

/** How long events are judged before the event loop serves others. Milliseconds. */
const SLICE_MS = 5;
/** What is judged: a `move` is a `movedfrom` and a `movedto`. */
const JUDGED: ReadonlySet<string> = new Set([...EXPLAINED_KINDS, "move"]);
/** Different examples that are told at most. */
const MAX_EXAMPLES = 1000;

export interface RehearsalOptions {
  readonly engine: Pick<Engine, "findContainer" | "rehearse" | "judgePast">;
  readonly history: Pick<EventHistory, "first" | "end" | "at">;
}

type Response = (typeof RESPONSES)[number];
type Example = MessageInitShape<typeof RehearsedEventSchema>;

/** Throws JanusdError: the guard makes no sense. */
export async function rehearse(
  { engine, history }: RehearsalOptions,
  { config, events, examples }: RehearseRequest,
): Promise<RehearseResponse> {
  if (config === undefined) throw JanusdError.invalid([{ field: "config", description: "is missing" }]);
  const guard = parseGuard(config);
  const { containers, missing } = find(engine, guard);
  let id = 0;
  const subjects = compileGuard(guard, containers, "", () => ++id);
  const { tables, faults } = prepare(engine, guard, subjects);
  const tally = new Tally(Math.min(examples, MAX_EXAMPLES));
  const { end } = history;
  let begun = performance.now();
  for (let position = Math.max(history.first, end - events); position < end; position++) {
    if (performance.now() - begun > SLICE_MS) {
      await othersTurn();
      begun = performance.now();
    }
    const past = history.at(position);
    if (past !== undefined) tally.look(past, (one) => judge(engine, tables, guard, one));
  }
  const told = tally.message();
  return create(RehearseResponseSchema, {
    ...told,
    missingContainers: missing,
    faults: faults.map((fault) => ({ ...fault })),
  });
}

function prepare(
  engine: RehearsalOptions["engine"],
  guard: Guard,
  subjects: Parameters<typeof nativeGuard>[2],
): ReturnType<Engine["rehearse"]> {
  try {
    return engine.rehearse(nativeGuard(0, guard, subjects, true));
  } catch (error) {
    throw JanusdError.from(error);
  }
}

function find(engine: RehearsalOptions["engine"], guard: Guard): { containers: LiveContainer[]; missing: string[] } {
  const containers = new Map<string, LiveContainer>();
  const missing: string[] = [];
  for (const { id, name } of guard.containers) {
    try {
      const info = engine.findContainer(id);
      containers.set(info.id, { info, name });
    } catch (error) {
      if (!isNativeError(error) || error.code !== "NOT_FOUND") throw JanusdError.from(error);
      missing.push(id);
    }
  }
  return { containers: [...containers.values()], missing };
}

interface Judged {
  readonly response: Response;
  /** See JudgedPast. */
  readonly assumed: boolean;
}

/** What would have been answered. Undefined: the guard has no say, and had none. */
function judge(
  engine: RehearsalOptions["engine"],
  tables: RehearsalTables,
  guard: Guard,
  past: PastEvent,
): Judged | undefined {
  const { record, response } = past.view;
  const said = engine.judgePast(tables, record, past.subject.containerId);
  const others = withoutGuard(guard, past);
  if (said === undefined && others === RESPONSES[response]) return undefined;
  const own = RESPONSES[said?.response ?? 0] ?? "allow";
  return { response: RANK[own] > RANK[others] ? own : others, assumed: said?.assumed ?? false };
}

const RANK = { allow: 0, audit: 1, deny: 2 } as const satisfies Record<Response, number>;

/** What the other guards said of the event. */
function withoutGuard(guard: Guard, { view, subject, deniers }: PastEvent): Response {
  const recorded = RESPONSES[view.response] ?? "allow";
  if (recorded === "allow") return recorded;
  const others = [subject, ...deniers.others].filter((one) => !isOf(one, guard));
  if (deniers.cut || others.some(({ mode }) => mode === "enforce")) return recorded;
  return others.length > 0 ? "audit" : "allow";
}

function isOf({ guard: name, namespace, pod: podName }: SubjectContext, guard: Guard): boolean {
  return identity({ name, namespace, podName }) === identity(guard);
}

class Tally {
  readonly #examples = new Map<string, Example & { count: bigint }>();
  readonly #changes = new Map<string, { was: Response; wouldBe: Response; count: bigint }>();
  readonly #limit: number;
  #events = 0n;
  #judged = 0n;
  #assumed = 0n;
  #oldestMs: number | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  look(past: PastEvent, judge: (past: PastEvent) => Judged | undefined): void {
    const { view, subject } = past;
    this.#events++;
    this.#oldestMs ??= Number(view.timeNs / 1_000_000n);
    const event = EVENT_KINDS[view.kind];
    if (event === undefined || !JUDGED.has(event)) return;
    const judged = judge(past);
    if (judged === undefined) return;
    this.#judged++;
    if (judged.assumed) this.#assumed++;
    const was = RESPONSES[view.response] ?? "allow";
    const wouldBe = judged.response;
    if (was === wouldBe) return;
    const change = this.#changes.get(`${was} ${wouldBe}`) ?? { was, wouldBe, count: 0n };
    this.#changes.set(`${was} ${wouldBe}`, { ...change, count: change.count + 1n });
    const { pathText: path, exeText: executable, commText: comm, uid } = view;
    const about = { event, path, executable, comm, uid, container: subject.containerId };
    const key = JSON.stringify([about, was, wouldBe]);
    const known = this.#examples.get(key);
    if (known !== undefined) known.count++;
    else if (this.#examples.size < this.#limit)
      this.#examples.set(key, { ...about, was: RESPONSE[was], wouldBe: RESPONSE[wouldBe], count: 1n });
  }

  message() {
    return {
      events: this.#events,
      judged: this.#judged,
      assumed: this.#assumed,
      ...(this.#oldestMs === undefined ? {} : { oldest: timestampFromMs(this.#oldestMs) }),
      changes: [...this.#changes.values()].map(({ was, wouldBe, count }) => ({
        was: RESPONSE[was],
        wouldBe: RESPONSE[wouldBe],
        count,
      })),
      examples: [...this.#examples.values()].sort((a, b) => Number(b.count - a.count)),
    };
  }
}
