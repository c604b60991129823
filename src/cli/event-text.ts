/** Events as they are printed. Containers chose most of the names: none reaches the terminal unescaped. */
import { Buffer } from "node:buffer";
import { toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { printableBytes, printableString, quoteJson } from "../event/text.js";
import { type Event, EventSchema, type Lost, LostCause, LostSchema, Response } from "../gen/janus/v1/events_pb.js";
import { guardName } from "../subject.js";
import { shortId } from "./output.js";

export const EVENT_FORMATS = ["text", "wide", "json"] as const;
export type EventFormat = (typeof EVENT_FORMATS)[number];

/** Red and yellow. */
const COLORS: ReadonlyMap<Response, string> = new Map([
  [Response.DENY, "\x1b[31m"],
  [Response.AUDIT, "\x1b[33m"],
]);
const PLAIN = "\x1b[0m";

/** One line, with its end. */
export function formatEvent(event: Event, format: EventFormat, color: boolean): string {
  if (format === "json") return `${quoteJson({ event: toJson(EventSchema, event, { alwaysEmitImplicit: true }) })}\n`;
  const response = Response[event.response] ?? String(event.response);
  const mark = color ? COLORS.get(event.response) : undefined;
  const shown = mark === undefined ? response : `${mark}${response}${PLAIN}`;
  const parts = [timeText(event.time), shown, event.event, pathText(event), ...subjectText(event), processText(event)];
  return `${[...parts, ...(format === "wide" ? wideParts(event) : [])].join(" ")}\n`;
}

/** As `formatEvent` in JSON; for people in words. */
export function formatLost(lost: Lost, format: EventFormat): string {
  if (format === "json") return `${quoteJson({ lost: toJson(LostSchema, lost, { alwaysEmitImplicit: true }) })}\n`;
  const count = lost.count === 0n ? "events" : `${lost.count} event${lost.count === 1n ? "" : "s"}`;
  switch (lost.cause) {
    case LostCause.QUEUE:
      return `${count} lost: they came faster than they were taken here`;
    case LostCause.HISTORY:
      return `${count} lost: the daemon keeps no more of the past (--event-history)`;
    case LostCause.RECORD:
      return `${count} lost: the daemon has no record of them (metric janusd_events_lost_total)`;
    default:
      return `${count} lost`;
  }
}

/** Of each guard that denies, or would. Of a denial, those that only audit are marked. */
function guardsOf({ subject, deniers, deniersCut, response }: Event): string {
  const first = { name: subject?.guard ?? "", namespace: subject?.namespace ?? "", auditing: false };
  const names = [first, ...deniers].map(({ name: guard, namespace, auditing }) => {
    const name = printableString(guardName({ guard, namespace }));
    return auditing && response === Response.DENY ? `${name}(audit)` : name;
  });
  return [...names, ...(deniersCut ? ["..."] : [])].join(",");
}

function subjectText(event: Event): string[] {
  const { pod = "", container = "", containerName = "" } = event.subject ?? {};
  const where = [pod, containerName || shortId(container)].filter((name) => name !== "").map(printableString);
  return [where.join("/"), guardsOf(event)];
}

function processText({ process }: Event): string {
  return process === undefined ? "" : `${printableString(process.comm)}[${process.pid}]`;
}

function wideParts({
  subject,
  process,
  sequence,
  directory,
  blockedNs,
  owner,
  late,
  asked,
  merged,
  found,
}: Event): string[] {
  const ancestry = (process?.ancestry ?? []).map(({ pid, comm }) => `${printableString(comm)}[${pid}]`);
  const tags = Object.entries(subject?.tags ?? {}).map(([key, value]) => printableString(`${key}=${value}`));
  const flags = Object.entries({ directory, owner, late, merged, found, outside: process?.inside === false });
  return [
    `uid=${process?.uid ?? ""}`,
    `exe='${printableString(process?.executable ?? "")}'`,
    ...claim("argv0", process?.argv0),
    ...claim("asked", asked),
    `by=${[...ancestry, ...(process?.ancestryCut ? ["..."] : [])].join("<") || "-"}`,
    `node=${printableString(subject?.node ?? "")}`,
    `seq=${sequence}`,
    `blocked=${(blockedNs / 1000).toFixed(1)}us`,
    ...flags.flatMap(([name, set]) => (set ? [name] : [])),
    ...tags,
  ];
}

/** Nothing where it isn't known. */
function claim(name: string, value = ""): string[] {
  return value === "" ? [] : [`${name}='${printableString(value)}'`];
}

function timeText(time: Timestamp | undefined): string {
  return time === undefined ? "-" : timestampDate(time).toISOString();
}

/** Of a rename, both names. */
function pathText({ path, pathBytes, newPath, newPathBytes, oldPath, oldPathBytes }: Event): string {
  const parts = [quotedPath(path, pathBytes)];
  if (oldPath !== "") parts.unshift(quotedPath(oldPath, oldPathBytes), "->");
  if (newPath !== "") parts.push("->", quotedPath(newPath, newPathBytes));
  return parts.join(" ");
}

function quotedPath(path: string, pathBytes: Uint8Array): string {
  const bytes = Buffer.from(pathBytes);
  return `'${bytes.length === 0 ? printableString(path) : printableBytes(bytes, 0, bytes.length)}'`;
}
