/** The flags that say which events: from their texts to a request. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { InvalidArgumentError } from "commander";
import { Response, type WatchRequest, WatchRequestSchema } from "../gen/janus/v1/events_pb.js";

export type Since = WatchRequest["since"];

/** Of `EventFilter`. */
interface FilterValues {
  readonly uids?: readonly number[];
  readonly responses?: readonly Response[];
  readonly texts?: Readonly<Partial<Record<TextField, readonly string[]>>>;
}

export interface EventOptions {
  readonly deny?: boolean;
  readonly audit?: boolean;
  readonly guard?: readonly string[];
  readonly namespace?: readonly string[];
  readonly pod?: readonly string[];
  readonly container?: readonly string[];
  readonly event?: readonly string[];
  readonly path?: readonly string[];
  readonly exe?: readonly string[];
  readonly asked?: readonly string[];
  readonly argv0?: readonly string[];
  readonly uid?: readonly number[];
  readonly not?: FilterValues;
}

/** What `--not` takes, as the flags are called; and which field of the request it is. */
const FIELDS = {
  guard: "guards",
  namespace: "namespaces",
  pod: "pods",
  container: "containers",
  event: "events",
  path: "paths",
  exe: "executables",
  asked: "asked",
  argv0: "argv0",
} as const;

type Flag = keyof typeof FIELDS;
type TextField = (typeof FIELDS)[Flag];

function isFlag(name: string): name is Flag {
  return Object.hasOwn(FIELDS, name);
}

const RESPONSES: ReadonlyMap<string, Response> = new Map([
  ["allow", Response.ALLOW],
  ["deny", Response.DENY],
  ["audit", Response.AUDIT],
]);

const DAY_S = 86_400;
const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: DAY_S };

/** Of 30s, 5m, 2h or 1d; undefined for any other text. */
function secondsOf(text: string): number | undefined {
  const [, count, unit = ""] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const seconds = SECONDS[unit];
  return seconds === undefined ? undefined : Number(count) * seconds;
}

/** `now`: milliseconds since the epoch. Throws InvalidArgumentError, as all of these. */
export function parseSince(text: string, _before?: unknown, now = Date.now()): Since {
  const ago = secondsOf(text);
  if (ago !== undefined) return { case: "sinceTime", value: timestampFromDate(new Date(now - ago * 1000)) };
  if (/^\d{1,16}$/.test(text)) return { case: "sinceSequence", value: BigInt(text) };
  const time = /^\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)$/.test(text) ? new Date(text) : undefined;
  if (time === undefined || Number.isNaN(time.getTime())) {
    throw new InvalidArgumentError("give 30s, 5m, 2h or 1d, a time such as 2030-01-31T12:00:00Z, or an event's number");
  }
  return { case: "sinceTime", value: timestampFromDate(time) };
}

/** To milliseconds; up to a week. */
export function parseDuration(text: string): number {
  const seconds = secondsOf(text) ?? Number.NaN;
  if (!(seconds > 0 && seconds <= 7 * DAY_S)) throw new InvalidArgumentError("give 30s, 10m, 2h or 1d, up to 7d");
  return seconds * 1000;
}

export function parseUid(text: string, before: readonly number[] = []): number[] {
  const uid = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(uid < 2 ** 32)) throw new InvalidArgumentError("give a user's number");
  return [...before, uid];
}

export function parseInterval(text: string): number {
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (seconds < 1 || seconds > 3600) throw new InvalidArgumentError("give a whole number from 1 to 3600");
  return seconds;
}

export function parseNot(text: string, before: FilterValues = {}): FilterValues {
  const [, name = "", value = ""] = /^([a-z0-9]+)=(.*)$/s.exec(text) ?? [];
  if (name === "uid") return { ...before, uids: parseUid(value, before.uids) };
  const response = RESPONSES.get(value);
  if (name === "response" && response !== undefined) {
    return { ...before, responses: [...(before.responses ?? []), response] };
  }
  if (!isFlag(name)) {
    const names = [...Object.keys(FIELDS), "uid"].map((flag) => `${flag}=VALUE`).join(", ");
    throw new InvalidArgumentError(`give ${names}, response=allow, response=deny or response=audit`);
  }
  const field = FIELDS[name];
  return { ...before, texts: { ...before.texts, [field]: [...(before.texts?.[field] ?? []), value] } };
}

export function requestOf(options: EventOptions, follow: boolean, since?: Since): WatchRequest {
  const texts = Object.fromEntries(Object.entries(FIELDS).map(([flag, field]) => [field, textsOf(options, flag)]));
  const responses = [...(options.deny ? [Response.DENY] : []), ...(options.audit ? [Response.AUDIT] : [])];
  const include = { texts, uids: options.uid ?? [], responses };
  return create(WatchRequestSchema, {
    include: filterOf(include),
    ...(options.not === undefined ? {} : { exclude: filterOf(options.not) }),
    ...(since === undefined ? {} : { since }),
    follow,
  });
}

function textsOf(options: EventOptions, flag: string): readonly string[] {
  return isFlag(flag) ? (options[flag] ?? []) : [];
}

function filterOf({ texts = {}, uids = [], responses = [] }: FilterValues) {
  const copies = Object.fromEntries(Object.entries(texts).map(([field, values]) => [field, [...values]]));
  return { ...copies, uids: [...uids], responses: [...responses] };
}
