import { singleLine } from "../event/text.js";

const GAP = "   ";

export type Columns<T> = Readonly<Record<string, (row: T) => string>>;

/** Left-aligned columns under their names, as kubectl prints them; an empty cell shows as `-`. */
export function formatTable<T>(columns: Columns<T>, rows: readonly T[]): string {
  const cells = rows.map((row) => Object.values(columns).map((read) => singleLine(read(row)) || "-"));
  const lines = [Object.keys(columns), ...cells];
  const widths = Object.keys(columns).map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map(
      (line) =>
        `${line
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join(GAP)
          .trimEnd()}\n`,
    )
    .join("");
}
