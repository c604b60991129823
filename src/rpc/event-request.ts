/** What a client asks of the event stream, checked once. */
import { create, toBinary } from "@bufbuild/protobuf";
import { type FieldViolation, JanusdError } from "../errors.js";
import { EventFilter, type FilterFields, NO_FIELDS } from "../event/filter.js";
import { Glob } from "../event/glob.js";
import { EVENT_KINDS, RENAME_KINDS, RESPONSES } from "../event/layout.js";
import {
  type EventFilter as FilterMessage,
  type Response,
  type WatchRequest,
  WatchRequestSchema,
} from "../gen/janus/v1/events_pb.js";
import { CONTAINER_ID_HELP, containerId, globProblem } from "../guard/guard.js";
import { RESPONSE } from "./event-message.js";
import type { Since, Subscription } from "./event-streams.js";

/** Of one field. */
const MAX_VALUES = 64;
/** Of one value, in bytes. */
const MAX_LENGTH = 1024;
/** Of all patterns of one filter, in bytes: each costs at worst its length times that of a container's path. */
const MAX_PATTERNS = 2048;

const NS_PER_SECOND = 1_000_000_000n;
/** By so much a client's clock may be ahead of ours. */
const MAX_AHEAD_NS = 60n * NS_PER_SECOND;

type Refuse = (field: string, description: string) => void;

/** Throws JanusdError. */
export function parseWatch(request: WatchRequest): Subscription {
  const violations: FieldViolation[] = [];
  const refuse: Refuse = (field, description) => violations.push({ field, description });
  const { include, exclude, follow } = request;
  const fields = { include: parseFields("include", include, refuse), exclude: parseFields("exclude", exclude, refuse) };
  const since = parseSince(request, refuse);
  if (violations.length > 0) throw JanusdError.invalid(violations);
  const filters = { ...(include && { include }), ...(exclude && { exclude }) };
  const filterKey = Buffer.from(toBinary(WatchRequestSchema, create(WatchRequestSchema, filters))).toString("base64");
  return { filter: new EventFilter(fields.include, fields.exclude), filterKey, since, follow };
}

function parseSince({ since, follow }: WatchRequest, refuse: Refuse): Since {
  if (since.case === undefined) return { kind: follow ? "now" : "oldest" };
  if (since.case === "sinceSequence") return { kind: "sequence", sequence: Number(since.value) };
  const { seconds, nanos } = since.value;
  if (nanos < 0 || nanos >= NS_PER_SECOND) refuse("since_time.nanos", "must be from 0 to 999999999");
  const timeNs = seconds * NS_PER_SECOND + BigInt(nanos);
  if (timeNs > BigInt(Date.now()) * 1_000_000n + MAX_AHEAD_NS) refuse("since_time", "is in the future");
  return { kind: "time", timeNs };
}

function parseFields(at: string, filter: FilterMessage | undefined, refuse: Refuse): FilterFields {
  if (filter === undefined) return NO_FIELDS;
  const parse = <From, To>(field: string, values: readonly From[], read: (value: From) => To | Problem): To[] => {
    if (values.length > MAX_VALUES) refuse(`${at}.${field}`, `has ${values.length} values: ${MAX_VALUES} at most`);
    return values.slice(0, MAX_VALUES).flatMap((value, index) => {
      const read_ = read(value);
      if (!(read_ instanceof Problem)) return [read_];
      refuse(`${at}.${field}[${index}]`, read_.description);
      return [];
    });
  };
  const { paths, executables, asked, argv0 } = filter;
  const patterns = [paths, executables, asked, argv0].flat().reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  if (patterns > MAX_PATTERNS) {
    const bounds = `have ${patterns} bytes together: ${MAX_PATTERNS} at most`;
    refuse(`${at}.paths`, `and executables, asked and argv0 ${bounds}`);
  }
  return {
    guards: parse("guards", filter.guards, nameOf),
    namespaces: parse("namespaces", filter.namespaces, plain),
    pods: parse("pods", filter.pods, plain),
    containers: parse("containers", filter.containers, (id) => containerId(id) ?? new Problem(CONTAINER_ID_HELP)),
    kinds: parse("events", filter.events, kindsOf).flat(),
    responses: parse("responses", filter.responses, responseOf),
    paths: parse("paths", paths, pathOf),
    uids: parse("uids", filter.uids, (uid) => uid),
    executables: parse("executables", executables, pathOf),
    asked: parse("asked", asked, globOf),
    argv0: parse("argv0", argv0, globOf),
  };
}

class Problem {
  constructor(readonly description: string) {}
}

/** Also the empty one: of events that have none. */
function plain(text: string): string | Problem {
  return Buffer.byteLength(text) <= MAX_LENGTH ? text : new Problem(`is longer than ${MAX_LENGTH} bytes`);
}

function nameOf(text: string): string | Problem {
  return text === "" ? new Problem("is empty") : plain(text);
}

function kindsOf(name: string): readonly number[] | Problem {
  if (!isKind(name)) return new Problem(`unknown event; known are ${EVENT_KINDS.join(", ")}`);
  return (isRename(name) ? RENAME_KINDS[name] : [name]).map((kind) => EVENT_KINDS.indexOf(kind));
}

function isKind(name: string): name is (typeof EVENT_KINDS)[number] {
  return EVENT_KINDS.some((kind) => kind === name);
}

function isRename(name: string): name is keyof typeof RENAME_KINDS {
  return Object.hasOwn(RENAME_KINDS, name);
}

function responseOf(response: Response): number | Problem {
  const index = RESPONSES.findIndex((name) => RESPONSE[name] === response);
  return index === -1 ? new Problem("unknown response") : index;
}

/** Of a path as the daemon finds it. */
function pathOf(pattern: string): Glob | Problem {
  return /^(?:\/|\*\*)/.test(pattern) ? globOf(pattern) : new Problem("must begin with / or **");
}

/** A slash at the end says nothing, and `/` is everything. */
function globOf(pattern: string): Glob | Problem {
  const problem = globProblem(pattern);
  const text = problem === undefined ? plain(pattern) : new Problem(problem);
  return text instanceof Problem ? text : new Glob(/^\/+$/.test(text) ? "/**" : text.replace(/(?<!\\)\/+$/, ""));
}
