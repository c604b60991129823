/**
 * janus.v1.InspectionService: what the daemon sees, on the engine and the
 * registry. Changes nothing.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServerWritableStream, UntypedServiceImplementation } from "@grpc/grpc-js";
import { isNativeError, JanusdError } from "../errors.js";
import { EVENT_KINDS, EXPLAINED_KINDS, RESPONSES } from "../event/layout.js";
import {
  Actor,
  type ExplainRequest,
  type ExplainResponse,
  ExplainResponseSchema,
  type GetStatusResponse,
  GetStatusResponseSchema,
  type GuardDecisionsSchema,
  type GuardDetailsSchema,
  type GuardSchema,
  GuardSource,
  GuardState,
  type ListContainersRequest,
  type ListContainersResponse,
  ListContainersResponseSchema,
  type ListGuardsRequest,
  type ListGuardsResponse,
  ListGuardsResponseSchema,
  type ListProcessesRequest,
  type ListProcessesResponse,
  ListProcessesResponseSchema,
  ProcessRole,
  type RehearseRequest,
  type RehearseResponse,
  RuleBearing,
  Verdict,
} from "../gen/janus/v1/inspection_pb.js";
import { GuardMode } from "../gen/janus_pb.js";
import { CONTAINER_ID_HELP, containerId, normalisePath, pathProblem } from "../guard/guard.js";
import { type GuardDetails, type GuardRegistry, isMeant } from "../guard/registry.js";
import type { Check } from "../health.js";
import type { Log } from "../log.js";
import type { Bearing, Engine, EngineStats, Explanation, Probe, ProcessSummary } from "../native.js";
import type { SubjectLookup } from "../subject.js";
import { type RehearsalOptions, rehearse } from "./rehearsal.js";
import { failure, unary } from "./unary.js";

/** What the daemon says of itself. */
export interface DaemonStatus {
  readonly version: string;
  readonly commit: string;
  readonly nodeName: string;
  readonly pid: number;
  readonly startedMs: number;
  readonly ready: boolean;
  readonly checks: readonly Check[];
  readonly features: Probe["features"];
  readonly guards: number;
  readonly programs: readonly string[];
  readonly exposure: EngineStats["exposure"];
  readonly holdTier: string;
}

export interface InspectionServiceOptions {
  readonly engine: Pick<Engine, "listContainers" | "listProcesses" | "explain"> &
    RehearsalOptions["engine"] & { stats(): Pick<EngineStats, "decisions"> };
  readonly history: RehearsalOptions["history"];
  readonly registry: Pick<GuardRegistry, "list" | "lookup">;
  /** Held or pending. */
  readonly guards: () => readonly GuardDetails[];
  readonly status: () => DaemonStatus;
  readonly log: Log;
}

export function inspectionService({
  engine,
  registry,
  guards,
  status,
  history,
  log,
}: InspectionServiceOptions): UntypedServiceImplementation {
  // One at a time: each takes some of the event loop.
  let rehearsals: Promise<unknown> = Promise.resolve();
  return {
    listContainers: unary(log, "ListContainers", ({ all }: ListContainersRequest): ListContainersResponse => {
      const onContainer = guardsByContainer(registry);
      const containers = engine
        .listContainers(all)
        .filter(({ id }) => all || onContainer.has(id)) // one that lost its guards is still tracked
        .map((container) => ({
          id: container.id,
          cgroupPath: container.cgroupPath,
          cgroupVersion: container.hierarchy === 0 ? 2 : 1,
          firstPid: container.firstPid,
          processCount: container.processes,
          started: timestampFromMs(container.startedMs),
          guards: onContainer.get(container.id) ?? [],
        }));
      return create(ListContainersResponseSchema, { containers });
    }),

    listProcesses: unary(log, "ListProcesses", ({ container }: ListProcessesRequest): ListProcessesResponse => {
      const processes = engine.listProcesses(idOf(container)).map((process) => ({
        pid: process.pid,
        ppid: process.ppid,
        started: timestampFromMs(process.startedMs),
        uid: process.uid,
        comm: process.comm,
        executable: process.executable,
        role: roleOf(process),
        mountNamespace: process.mountNamespace,
      }));
      return create(ListProcessesResponseSchema, { processes });
    }),

    explain: unary(log, "Explain", (request: ExplainRequest): ExplainResponse => {
      const { event, ...asked } = questionOf(request);
      try {
        const said = engine.explain(asked.container, asked.path, EVENT_KINDS.indexOf(event), asked.pid);
        return create(ExplainResponseSchema, { event, ...explanationOf(said, asked.pid, registry.lookup) });
      } catch (error) {
        if (!isNativeError(error) || error.code !== "INVALID") throw error;
        const field = error.path === undefined ? "pid" : "path";
        throw JanusdError.invalid([{ field, description: error.message }], { cause: error });
      }
    }),

    rehearse: unary(log, "Rehearse", (request: RehearseRequest): Promise<RehearseResponse> => {
      const turn = rehearsals.then(() => rehearse({ engine, history }, request));
      rehearsals = turn.catch(() => undefined);
      return turn;
    }),

    getStatus: unary(log, "GetStatus", (): GetStatusResponse => {
      const { startedMs, checks, features, programs, exposure, ...plain } = status();
      return create(GetStatusResponseSchema, {
        ...plain,
        started: timestampFromMs(startedMs),
        checks: [...checks],
        features: mapValues(features, ({ works }) => works),
        programs: [...programs],
        exposure: mapValues(exposure, BigInt),
      });
    }),

    listGuards: (call: ServerWritableStream<ListGuardsRequest, ListGuardsResponse>): void => {
      try {
        const counts = decisionsBySubject(engine.stats());
        const meant = guards().filter(({ config }) => isMeant(config, call.request));
        for (const guard of meant) call.write(create(ListGuardsResponseSchema, { guard: messageOf(guard, counts) }));
        call.end();
      } catch (thrown) {
        call.emit("error", failure(log, "ListGuards", thrown));
      }
    },
  };
}

/** Throws JanusdError (kind `invalid`). */
function idOf(container: string): string {
  const id = containerId(container);
  if (id === undefined) throw JanusdError.invalid([{ field: "container", description: CONTAINER_ID_HELP }]);
  return id;
}

/** The same, with all that is wrong. */
function questionOf({ container, path, event, pid }: ExplainRequest) {
  const kind = EXPLAINED_KINDS.find((known) => known === (event || "open"));
  const violations = [
    { field: "container", description: containerId(container) === undefined ? CONTAINER_ID_HELP : undefined },
    { field: "path", description: pathProblem(path) },
    {
      field: "event",
      description: kind === undefined ? `can't be explained; these can: ${EXPLAINED_KINDS.join(", ")}` : undefined,
    },
    { field: "pid", description: pid < 0 ? "must be a process's number, or 0 for none" : undefined },
  ].flatMap(({ field, description }) => (description === undefined ? [] : { field, description }));
  if (kind === undefined || violations.length > 0) throw JanusdError.invalid(violations);
  return { container: idOf(container), path: normalisePath(path), event: kind, pid };
}

const BEARINGS = {
  applies: RuleBearing.APPLIES,
  shadowed: RuleBearing.SHADOWED,
  otherEvent: RuleBearing.OTHER_EVENT,
  otherActor: RuleBearing.OTHER_ACTOR,
  onlyDirectories: RuleBearing.ONLY_DIRECTORIES,
  tooDeep: RuleBearing.TOO_DEEP,
  excluded: RuleBearing.EXCLUDED,
} as const satisfies Record<Bearing, RuleBearing>;

const ACTORS = {
  container: Actor.CONTAINER,
  owner: Actor.OWNER,
  node: Actor.NODE,
  process: Actor.PROCESS,
} as const satisfies Record<Explanation["verdicts"][number]["who"], Actor>;

const VERDICTS = { allow: Verdict.ALLOW, deny: Verdict.DENY, audit: Verdict.AUDIT } as const;

function explanationOf(
  { seen, rules, verdicts, judgedAs, ...plain }: Explanation,
  pid: number,
  lookup: SubjectLookup,
): MessageInitShape<typeof ExplainResponseSchema> {
  const guardOf = (subjectId: number) => {
    const { guard = "", namespace = "", pod = "" } = lookup(subjectId) ?? {};
    return { name: guard, namespace, podName: pod };
  };
  return {
    ...{ ...plain, path: seen, judgedAs: [...judgedAs] },
    rules: rules.map(({ subjectId, bearing, ...rule }) => ({
      ...rule,
      guard: guardOf(subjectId),
      mode: lookup(subjectId)?.mode === "audit" ? GuardMode.AUDIT : GuardMode.ENFORCE,
      subject: lookup(subjectId)?.subjectIndex ?? 0,
      bearing: BEARINGS[bearing],
    })),
    verdicts: verdicts.map(({ who, judged, response, subjectId, otherIds, ...verdict }) => {
      const actor = { actor: ACTORS[who], pid: who === "process" ? pid : 0 };
      if (!judged) return { ...actor, verdict: Verdict.UNJUDGED };
      return {
        ...{ ...actor, ...verdict, verdict: VERDICTS[RESPONSES[response] ?? "allow"] },
        ...{ guard: guardOf(subjectId), subject: lookup(subjectId)?.subjectIndex ?? 0, others: otherIds.map(guardOf) },
      };
    }),
  };
}

const SOURCES = {
  rpc: GuardSource.RPC,
  file: GuardSource.FILE,
  kubernetes: GuardSource.KUBERNETES,
  state: GuardSource.STATE,
} as const;

function messageOf(
  { config, nodeName, source, pending, unguarded, sinceMs, containers, subjectIds, complete, warnings }: GuardDetails,
  counts: ReadonlyMap<number, EngineStats["decisions"]>,
): MessageInitShape<typeof GuardDetailsSchema> {
  return {
    ...{ config, nodeName, complete, containers: [...containers], warnings: [...warnings] },
    source: SOURCES[source],
    state: pending === undefined ? GuardState.ACTIVE : GuardState.PENDING,
    reason: pending ?? unguarded.map(({ path, container, reason }) => `${path} in ${container} ${reason}`).join("; "),
    since: timestampFromMs(sinceMs),
    decisions: sumOf(subjectIds.flatMap((id) => counts.get(id) ?? [])),
  };
}

/** What was answered, of each subject. */
function decisionsBySubject({ decisions }: Pick<EngineStats, "decisions">): Map<number, EngineStats["decisions"]> {
  return Map.groupBy(
    decisions.filter(({ answered }) => answered),
    ({ subjectId }) => subjectId,
  );
}

/** By event. */
function sumOf(decisions: EngineStats["decisions"]): MessageInitShape<typeof GuardDecisionsSchema>[] {
  return [...Map.groupBy(decisions, ({ kind }) => kind)].map(([kind, ofKind]) => {
    const sum = (name: (typeof RESPONSES)[number]): bigint =>
      BigInt(ofKind.reduce((total, { response, count }) => total + (RESPONSES[response] === name ? count : 0), 0));
    return { event: EVENT_KINDS[kind] ?? "unknown", allowed: sum("allow"), denied: sum("deny"), audited: sum("audit") };
  });
}

function guardsByContainer(registry: Pick<GuardRegistry, "list">): Map<string, MessageInitShape<typeof GuardSchema>[]> {
  const guards = new Map<string, MessageInitShape<typeof GuardSchema>[]>();
  for (const { name, namespace, podName, containerIds } of registry.list()) {
    for (const id of containerIds) guards.set(id, [...(guards.get(id) ?? []), { name, namespace, podName }]);
  }
  return guards;
}

function mapValues<From, To>(from: Readonly<Record<string, From>>, change: (value: From) => To): Record<string, To> {
  return Object.fromEntries(Object.entries(from).map(([key, value]) => [key, change(value)]));
}

function roleOf({ init, child }: ProcessSummary): ProcessRole {
  if (init) return ProcessRole.INIT;
  return child ? ProcessRole.CHILD : ProcessRole.OTHER;
}
