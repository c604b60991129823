/** The commands about events. Each resolves to the exit status. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Event, Response } from "../gen/janus/v1/events_pb.js";
import { guardName } from "../subject.js";
import { type EventOptions, requestOf, type Since } from "./event-options.js";
import { type EventFormat, formatEvent, formatLost } from "./event-text.js";
import type { Session, Terminal } from "./session.js";
import { type Columns, formatTable } from "./table.js";

interface EventsOptions extends EventOptions {
  readonly follow?: boolean;
  readonly since?: Since;
  readonly output: EventFormat;
}

export async function events({ client, io }: Session, options: EventsOptions): Promise<number> {
  const { follow = false, since, output } = options;
  for await (const items of client.watch(requestOf(options, follow, since))) {
    for (const { item } of items) {
      if (item.case === "event") io.stdout(formatEvent(item.value, output, io.terminal?.color ?? false));
      else if (item.case === "lost" && output === "json") io.stdout(formatLost(item.value, output));
      else if (item.case === "lost") io.stderr(`janusctl: ${formatLost(item.value, output)}\n`);
    }
    await io.drained?.();
  }
  return 0;
}

/** What `top` counts by; the first is the default. */
export const TOP_KEYS = ["guard", "pod", "path", "exe"] as const;
type TopKey = (typeof TOP_KEYS)[number];

interface TopOptions extends EventOptions {
  readonly by: TopKey;
  readonly once?: boolean;
  readonly interval: number;
}

export async function top({ client, io }: Session, options: TopOptions): Promise<number> {
  const { by, once = io.terminal === undefined, interval } = options;
  const counts = new Counts();
  const enough = new AbortController();
  const opened = Promise.withResolvers<void>();
  const counting = (async () => {
    for await (const items of client.watch(requestOf(options, true), enough.signal)) {
      for (const { item } of items) {
        if (item.case === "opened") opened.resolve();
        else if (item.case === "event") counts.add(keyOf(item.value, by), item.value.response);
        else if (item.case === "lost") counts.lost += Number(item.value.count);
      }
    }
  })();
  try {
    await Promise.race([opened.promise, counting]);
    const ended = counting.then(() => true);
    for (;;) {
      const last = await Promise.race([sleep(interval * 1000, once, { ref: false }), ended]);
      const table = counts.table(by, interval);
      io.stdout(once || io.terminal === undefined ? table : onScreen(table, io.terminal));
      if (last) return 0;
      counts.begin();
    }
  } finally {
    enough.abort();
  }
}

function keyOf({ subject, process, path }: Event, by: TopKey): string {
  switch (by) {
    case "guard":
      return guardName({ namespace: subject?.namespace ?? "", guard: subject?.guard ?? "" });
    case "pod":
      return subject?.pod ?? "";
    case "path":
      return path;
    case "exe":
      return process?.executable ?? "";
  }
}

const HOME_AND_CLEAR = "\x1b[H\x1b[J";

/** What fits, from the upper left. */
function onScreen(table: string, { size }: Terminal): string {
  const { columns, rows } = size();
  const lines = table.split("\n").slice(0, rows - 1);
  return HOME_AND_CLEAR + lines.map((line) => line.slice(0, columns)).join("\n");
}

/** How many keys are counted apart: containers choose how many there are. */
const MAX_KEYS = 10_000;

/** Events by response; those of this interval, and all. */
interface Count {
  readonly responses: Map<Response, number>;
  interval: number;
  total: number;
}

const noCount = (): Count => ({ responses: new Map(), interval: 0, total: 0 });

class Counts {
  lost = 0;
  #counts = new Map<string, Count>();
  /** Of keys for which there was no room. */
  #others = noCount();

  /** A new interval: what had no event in the last makes room if it is short. */
  begin(): void {
    const all = [...this.#counts];
    const kept = all.length < MAX_KEYS ? all : all.filter(([, { interval }]) => interval > 0);
    this.#counts = new Map(kept);
    for (const count of [...this.#counts.values(), this.#others]) {
      count.responses.clear();
      count.interval = 0;
    }
  }

  add(key: string, response: Response): void {
    let count = this.#counts.get(key);
    if (count === undefined) {
      count = this.#counts.size < MAX_KEYS ? noCount() : this.#others;
      if (count !== this.#others) this.#counts.set(key, count);
    }
    count.responses.set(response, (count.responses.get(response) ?? 0) + 1);
    count.interval++;
    count.total++;
  }

  /** The busiest first. */
  table(by: TopKey, seconds: number): string {
    const sorted = [...this.#counts].sort(([, a], [, b]) => b.interval - a.interval || b.total - a.total);
    const rows = this.#others.total === 0 ? sorted : [...sorted, ["(others)", this.#others] satisfies [string, Count]];
    const perSecond =
      (response: Response) =>
      ([, { responses }]: [string, Count]): string =>
        ((responses.get(response) ?? 0) / seconds).toFixed(1);
    const columns: Columns<[string, Count]> = {
      "DENIED/S": perSecond(Response.DENY),
      "AUDITED/S": perSecond(Response.AUDIT),
      "ALLOWED/S": perSecond(Response.ALLOW),
      EVENTS: ([, { total }]) => String(total),
      [by.toUpperCase()]: ([key]) => key,
    };
    const lost = this.lost === 0 ? "" : `${this.lost} events lost\n`;
    return `${lost}${formatTable(columns, rows)}`;
  }
}
