/** What a guard would have changed: recorded events that it would have had answered otherwise, as text. */
import { singleLine } from "../event/text.js";
import { Response } from "../gen/janus/v1/events_pb.js";
import type { RehearsedEvent, RehearseResponse } from "../gen/janus/v1/inspection_pb.js";
import { shortId, timeOf } from "./output.js";
import { type Columns, formatTable } from "./table.js";

/** Different events that are shown at most. */
export const SHOWN_EXAMPLES = 20;

/** Lines, each with its end. */
export function rehearsed(said: RehearseResponse): string {
  const { events, oldest, changes, examples, assumed, missingContainers, faults } = said;
  const since = oldest === undefined ? "" : ` (since ${timeOf(oldest)})`;
  const differ = changes.reduce((sum, { count }) => sum + count, 0n);
  const kinds = changes.map(({ was, wouldBe, count }) => `${count} ${Response[was]} -> ${Response[wouldBe]}`);
  const shown = examples.reduce((sum, { count }) => sum + count, 0n);
  const lines = [
    `of the last ${events} events${since}, ${differ} would be answered otherwise${kinds.length === 0 ? "" : `: ${kinds.join(", ")}`}`,
    ...(examples.length === 0 ? [] : formatTable(COLUMNS, examples).trimEnd().split("\n")),
    ...(shown < differ ? [`and ${differ - shown} others`] : []),
    ...(assumed === 0n
      ? []
      : [`of ${assumed}, the process has ended: taken for one that is no owner (autoAllowOwner)`]),
    ...missingContainers.map((id) => `container ${shortId(id)} does not run: no event is judged for it`),
    ...faults.map(({ path, reason }) => `${path} ${reason}: no event is judged by it`),
  ];
  return lines.map((line) => `${singleLine(line)}\n`).join("");
}

const COLUMNS: Columns<RehearsedEvent> = {
  COUNT: ({ count }) => String(count),
  EVENT: ({ event }) => event,
  PATH: ({ path }) => path,
  PROGRAM: ({ executable }) => executable,
  NAME: ({ comm }) => comm,
  UID: ({ uid }) => String(uid),
  CONTAINER: ({ container }) => shortId(container),
  WAS: ({ was }) => Response[was],
  "WOULD BE": ({ wouldBe }) => Response[wouldBe],
};
