/** How results are printed: a table for people, JSON or YAML for scripts. */
import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { stringify } from "yaml";
import { type Columns, formatTable } from "./table.js";

export type Out = (text: string) => void;

export function printJson(out: Out, value: unknown): void {
  out(`${JSON.stringify(value, undefined, 2)}\n`);
}

export function printYaml(out: Out, value: unknown): void {
  out(stringify(value, { lineWidth: 0, aliasDuplicateObjects: false }));
}

/** The formats of `printMessages`; the first is the default. */
export const MESSAGE_FORMATS = ["table", "yaml", "json"] as const;

export function printMessages<D extends DescMessage>(
  out: Out,
  format: (typeof MESSAGE_FORMATS)[number],
  schema: D,
  messages: readonly MessageShape<D>[],
  columns: Columns<MessageShape<D>>,
): void {
  if (format === "table") {
    out(formatTable(columns, messages));
    return;
  }
  const values = messages.map((message) => toJson(schema, message, { alwaysEmitImplicit: true }));
  if (format === "json") printJson(out, values);
  else printYaml(out, values);
}

const SHORT_ID = 12;

/** Only of ids that runtimes make: a name stays whole. */
export function shortId(id: string): string {
  return /^[0-9a-f]{64}$/.test(id) ? id.slice(0, SHORT_ID) : id;
}

export function timeOf(timestamp: Timestamp | undefined): string {
  return timestamp === undefined
    ? ""
    : timestampDate(timestamp)
        .toISOString()
        .replace(/\.\d+Z$/, "Z");
}

const UNITS = [
  ["d", 86_400],
  ["h", 3600],
  ["m", 60],
] as const;

/** In the largest unit of which there are two, as `kubectl` has it: 90s, 3h, 12d. */
export function ageOf(timestamp: Timestamp | undefined, nowMs: number): string {
  if (timestamp === undefined) return "";
  const seconds = Math.max(0, Math.floor((nowMs - timestampDate(timestamp).getTime()) / 1000));
  const [unit, size] = UNITS.find(([, length]) => seconds >= 2 * length) ?? ["s", 1];
  return `${Math.floor(seconds / size)}${unit}`;
}
