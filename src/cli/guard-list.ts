/** `janusctl list`: guards with what they guard, how, since when, and what they decided. */
import { setTimeout as sleep } from "node:timers/promises";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type GuardDetails, GuardSource, GuardState } from "../gen/janus/v1/inspection_pb.js";
import { GuardMode, type JanusdConfig, type JanusGuardSubject, Scope } from "../gen/janus_pb.js";
import { fileField } from "../guard/document.js";
import { formatResources, type Resource, resourceOf } from "../guard/file-format.js";
import { labelOf } from "../guard/registry.js";
import { ageOf, type Out, printJson, shortId, timeOf } from "./output.js";
import { type Columns, formatTable } from "./table.js";

export const LIST_FORMATS = ["table", "wide", "yaml", "json"] as const;
export type ListFormat = (typeof LIST_FORMATS)[number];

/** Between two looks of `--watch`. Milliseconds. */
const WATCH_MS = 1000;
const SHOWN_PATHS = 3;

export function printGuards(out: Out, format: ListFormat, guards: readonly GuardDetails[]): void {
  if (format === "yaml") out(formatResources(guards.map(resourceWithStatus)));
  else if (format === "json") printJson(out, guards.map(resourceWithStatus));
  else out(formatTable(columnsOf(format, Date.now()), guards));
}

/** A line each; `printGuards` has them in YAML and JSON. */
export function warningsIn(guards: readonly GuardDetails[]): string[] {
  return guards.flatMap((guard) =>
    guard.warnings.map(
      ({ field, description }) => `guard ${labelOf(configOf(guard))}: ${fileField(field)}: warning: ${description}`,
    ),
  );
}

/**
 * Prints all, and then each that is new, changed or gone, for ever: `look`
 * ends it by throwing. JSON is one object a line, YAML one document each.
 */
export async function watchGuards(
  out: Out,
  format: ListFormat,
  look: () => Promise<readonly GuardDetails[]>,
): Promise<never> {
  let before = new Map<string, { readonly guard: GuardDetails; readonly said: string }>();
  for (let first = true; ; first = false) {
    const guards = (await look()).map((guard) => ({ guard, said: JSON.stringify(resourceWithStatus(guard)) }));
    const now = new Map(guards.map((seen) => [keyOf(seen.guard), seen]));
    const changed = guards.filter(({ guard, said }) => before.get(keyOf(guard))?.said !== said);
    const gone = [...before].flatMap(([key, { guard }]) => (now.has(key) ? [] : guard));
    before = now;
    if (format === "json") {
      for (const { said } of changed) out(`${said}\n`);
      for (const guard of gone) out(`${JSON.stringify(deleted(guard))}\n`);
    } else if (format === "yaml") {
      for (const { guard } of changed) out(`---\n${formatResources([resourceWithStatus(guard)])}`);
      for (const guard of gone) out(`---\n${formatResources([deleted(guard)])}`);
    } else if (first || changed.length + gone.length > 0) {
      const columns = columnsOf(format, Date.now());
      const rows = [
        ...changed.map(({ guard }) => ({ guard, gone: false })),
        ...gone.map((guard) => ({ guard, gone: true })),
      ];
      const read = Object.entries(columns).map(([name, cell]): [string, (row: (typeof rows)[number]) => string] => [
        name,
        (row) => (row.gone && name === "STATE" ? "deleted" : cell(row.guard)),
      ]);
      out(formatTable(Object.fromEntries(read), rows));
    }
    await sleep(WATCH_MS);
  }
}

function deleted(guard: GuardDetails): Resource {
  return { ...resourceOf(configOf(guard)), status: { state: "deleted" } };
}

function keyOf(guard: GuardDetails): string {
  const { name, namespace, podName } = configOf(guard);
  return JSON.stringify([name, namespace, podName]);
}

/** The daemon always sends one. */
export function configOf({ config }: GuardDetails): NonNullable<GuardDetails["config"]> {
  if (config === undefined) throw new Error("the daemon sent a guard without its configuration");
  return config;
}

/** As `get` prints it; the status is nothing that `apply` reads. */
function resourceWithStatus(guard: GuardDetails): Resource {
  const { nodeName, source, state, reason, since, complete, containers, decisions, warnings } = guard;
  return {
    ...resourceOf(configOf(guard)),
    status: {
      state: GuardState[state]?.toLowerCase(),
      ...(reason === "" ? {} : { reason }),
      source: GuardSource[source]?.toLowerCase(),
      nodeName,
      ...(since === undefined ? {} : { since: timestampDate(since).toISOString() }),
      complete,
      containers: containers.map(({ id, name, firstPid }) => ({ id, ...(name === "" ? {} : { name }), firstPid })),
      decisions: Object.fromEntries(
        decisions.map(({ event, allowed, denied, audited }) => [
          event,
          { allowed: Number(allowed), denied: Number(denied), audited: Number(audited) },
        ]),
      ),
      warnings: warnings.map(({ field, description }) => ({ field: fileField(field), description })),
    },
  };
}

function columnsOf(format: "table" | "wide", nowMs: number): Columns<GuardDetails> {
  const wide = format === "wide";
  return {
    NAMESPACE: (guard) => configOf(guard).namespace,
    NAME: (guard) => configOf(guard).name,
    POD: (guard) => configOf(guard).podName,
    ...(wide ? { NODE: ({ nodeName }: GuardDetails) => nodeName } : {}),
    CONTAINERS: ({ containers }) => containers.map(({ id }) => shortId(id)).join(","),
    ...(wide ? { PIDS: ({ containers }: GuardDetails) => containers.map(({ firstPid }) => firstPid).join(",") } : {}),
    MODE: (guard) => modesOf(configOf(guard)),
    SCOPE: (guard) => distinct(configOf(guard).subject.map(({ scope }) => (Scope[scope] ?? "").toLowerCase())),
    ...(wide
      ? { EVENTS: (guard: GuardDetails) => distinct(configOf(guard).subject.flatMap(({ event }) => event)) }
      : {}),
    PATHS: (guard) => pathsOf(configOf(guard).subject, wide ? Number.POSITIVE_INFINITY : SHOWN_PATHS),
    DECISIONS: ({ decisions }) => decisionsOf(decisions),
    ...(wide ? { SOURCE: ({ source }: GuardDetails) => (GuardSource[source] ?? "").toLowerCase() } : {}),
    AGE: ({ since }) => (wide ? timeOf(since) : ageOf(since, nowMs)),
    STATE: stateOf,
  };
}

function distinct(words: readonly string[]): string {
  return [...new Set(words)].join(",");
}

/** Whether its subjects answer, and how, or only watch. */
function modesOf({ subject, mode }: JanusdConfig): string {
  const answers = mode === GuardMode.AUDIT ? "audit" : "enforce";
  return distinct(subject.map(({ allow, deny }) => (allow.length + deny.length > 0 ? answers : "watch")));
}

function pathsOf(subjects: readonly JanusGuardSubject[], limit: number): string {
  const paths = (["deny", "allow", "watch"] as const).flatMap((list) =>
    [...new Set(subjects.flatMap((subject) => subject[list]))].map((path) => ({ list, path })),
  );
  const words: string[] = [];
  let last = "";
  for (const { list, path } of paths.slice(0, limit)) {
    words.push(list === last ? `,${path}` : `${last === "" ? "" : " "}${list} ${path}`);
    last = list;
  }
  return words.join("") + (paths.length > limit ? ` +${paths.length - limit}` : "");
}

function decisionsOf(decisions: GuardDetails["decisions"]): string {
  const sum = (field: "allowed" | "denied" | "audited"): bigint =>
    decisions.reduce((total, one) => total + one[field], 0n);
  const audited = sum("audited");
  return `${sum("denied")} denied, ${sum("allowed")} allowed${audited === 0n ? "" : `, ${audited} audited`}`;
}

function stateOf(guard: GuardDetails): string {
  if (guard.state === GuardState.PENDING) return `pending: ${guard.reason}`;
  if (guard.reason !== "") return `incomplete: ${guard.reason}`;
  return guard.complete ? "active" : `partial: ${guard.containers.length} of ${configOf(guard).cid.length} containers`;
}
