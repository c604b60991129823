/** Subscribers of the event stream: where they begin, what a slow one loses, and how they end. */
import { setTimeout as sleep } from "node:timers/promises";
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import t from "tap";
import type { JanusdError } from "../../src/errors.js";
import { EventHistory } from "../../src/event/history.js";
import { LostCause, WatchRequestSchema, WatchResponseSchema } from "../../src/gen/janus/v1/events_pb.js";
import { parseWatch } from "../../src/rpc/event-request.js";
import { EventStreams, type Receiver } from "../../src/rpc/event-streams.js";
import { type Deniers, NO_DENIERS } from "../../src/subject.js";
import { type RecordFields, subjectOf, viewOf } from "../support/records.js";

const subject = subjectOf();

class Source {
  readonly history: EventHistory;
  #seq = 0;
  #lost = 0;

  constructor(bytes = 1024 * 1024) {
    this.history = new EventHistory(bytes, () => this.#lost);
  }

  /** So many events, each a millisecond after the one before, as one batch. */
  add(count: number, fields: RecordFields = {}, deniers: Deniers = NO_DENIERS): void {
    for (let left = count; left > 0; left--) {
      const seq = ++this.#seq;
      const timeNs = BigInt(seq) * 1_000_000n;
      this.history.write(viewOf({ seq: BigInt(seq), timeNs, ...fields }), subject, deniers);
    }
    this.history.flush();
  }

  /** Events that the daemon has no record of. */
  lose(count: number): void {
    this.#seq += count;
    this.#lost += count;
  }

  /** Records that are nobody's events. */
  skip(count: number): void {
    this.#seq += count;
  }
}

/** A client that takes what comes, or not. */
class Client implements Receiver {
  /** `7`, `lost 3 QUEUE`, `opened 1 8`. */
  readonly items: string[] = [];
  largest = 0;
  ended: { readonly error: JanusdError | undefined } | undefined;
  /** Takes nothing while it is false. */
  takes: boolean;
  #taken: (() => void) | undefined;

  constructor(takes = true) {
    this.takes = takes;
  }

  write(response: Uint8Array, taken: () => void): void {
    this.largest = Math.max(this.largest, response.length);
    for (const { item } of fromBinary(WatchResponseSchema, response).items) {
      if (item.case === "event") this.items.push(String(item.value.sequence));
      else if (item.case === "lost") this.items.push(`lost ${item.value.count} ${LostCause[item.value.cause]}`);
      else if (item.case === "opened")
        this.items.push(`opened ${item.value.oldestSequence} ${item.value.nextSequence}`);
    }
    this.#taken = taken;
    if (this.takes) setImmediate(taken);
  }

  /** Takes again. */
  resume(): void {
    this.takes = true;
    this.#taken?.();
  }

  end(error: JanusdError | undefined): void {
    this.ended = { error };
  }

  get events(): string[] {
    return this.items.filter((item) => /^\d+$/.test(item));
  }

  get losses(): string[] {
    return this.items.filter((item) => item.startsWith("lost"));
  }
}

function subscribe(
  streams: EventStreams,
  client: Client,
  request: MessageInitShape<typeof WatchRequestSchema> = { follow: true },
): () => void {
  return streams.subscribe(parseWatch(create(WatchRequestSchema, request)), client);
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(1);
}

const range = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, index) => String(from + index));

t.test("from now on: nothing of the past, all that comes", async (t) => {
  const source = new Source();
  const streams = new EventStreams(source.history);
  source.add(5);
  const client = new Client();
  subscribe(streams, client);
  source.add(3);
  await until(() => client.items.length === 4);
  t.same(client.items, ["opened 1 6", "6", "7", "8"]);
  t.equal(streams.subscribers, 1);
  t.equal(streams.sent, 3);
  streams.close();
});

t.test("from the past on, while events come: each once, in order, no gap at the seam", async (t) => {
  const source = new Source();
  const streams = new EventStreams(source.history);
  source.add(2000);
  const clients: Client[] = [];
  for (let round = 0; round < 20; round++) {
    const client = new Client();
    clients.push(client);
    subscribe(streams, client, { follow: true, since: { case: "sinceSequence", value: BigInt(1 + round * 100) } });
    source.add(50);
    if (round % 3 === 0) await sleep(1);
    source.add(7);
  }
  const total = 2000 + 20 * 57;
  await until(() => clients.every(({ events }) => events.at(-1) === String(total)));
  for (const [round, { events, losses }] of clients.entries()) {
    t.same(events, range(1 + round * 100, total), `from ${1 + round * 100}`);
    t.same(losses, []);
  }
  streams.close();
});

t.test("since a time; a filter; not followed, it ends", async (t) => {
  const source = new Source();
  const streams = new EventStreams(source.history);
  source.add(10);
  source.add(2, { response: 1 });
  const read = async (request: MessageInitShape<typeof WatchRequestSchema>): Promise<string[]> => {
    const client = new Client();
    subscribe(streams, client, request);
    source.add(1);
    await until(() => client.ended !== undefined);
    t.equal(client.ended?.error, undefined);
    return client.items;
  };
  t.same(await read({}), ["opened 1 13", ...range(1, 12)], "not what came later");
  t.same(await read({ since: { case: "sinceTime", value: timestampFromMs(9) } }), ["opened 1 14", ...range(9, 13)]);
  t.same(await read({ include: { responses: [2] } }), ["opened 1 15", "11", "12"]);
  t.same(await read({ exclude: { responses: [1] }, include: { uids: [7] } }), ["opened 1 16"]);
  t.same(await read({ since: { case: "sinceTime", value: timestampFromMs(9e6) } }), ["opened 1 17"], "a time to come");
  t.equal(streams.subscribers, 0);
});

t.test("what no filter lets through is not encoded, and what several do, once", async (t) => {
  let encoded = 0;
  // These filters don't look at it; the encoder does.
  const deniers: Deniers = {
    cut: false,
    get others() {
      encoded++;
      return [];
    },
  };
  const source = new Source();
  const streams = new EventStreams(source.history);
  const encodedFor = async (client: Client, last: number): Promise<number> => {
    encoded = 0;
    source.add(10, {}, deniers);
    source.add(1, { response: 1 }, deniers);
    await until(() => client.events.at(-1) === String(last));
    return encoded;
  };
  const denied = [new Client(), new Client()] as const;
  for (const client of denied) subscribe(streams, client, { follow: true, include: { responses: [2] } });
  t.equal(await encodedFor(denied[1], 11), 1, "as they come");
  const past = new Client();
  encoded = 0;
  subscribe(streams, past, { include: { responses: [2] } });
  await until(() => past.ended !== undefined);
  t.same([past.events, encoded], [["11"], 1], "from the past");
  subscribe(streams, new Client());
  t.equal(await encodedFor(denied[1], 22), 11, "somebody wants all");
  streams.close();
});

t.test("a slow subscriber loses its own events only, and is told how many that were of its filter", async (t) => {
  const source = new Source(64 * 1024 * 1024);
  const streams = new EventStreams(source.history);
  const [slow, brisk] = [new Client(false), new Client()];
  subscribe(streams, slow, { follow: true, include: { responses: [2] } });
  subscribe(streams, brisk);
  const batches = 100;
  for (let batch = 0; batch < batches; batch++) {
    source.add(50, { response: 1, path: `/${"d".repeat(500)}` });
    source.add(50);
    await sleep(1);
  }
  await until(() => brisk.events.length === batches * 100);
  t.same(brisk.events, range(1, batches * 100));
  t.same(brisk.losses, []);
  await until(() => streams.lost.queue > 0);
  slow.resume();
  await until(() => slow.losses.length > 0);
  const lost = slow.losses.map((loss) => Number(/^lost (\d+) QUEUE$/.exec(loss)?.[1]));
  const sum = lost.reduce((total, count) => total + count, 0);
  t.equal(slow.events.length + sum, batches * 50);
  t.equal(streams.lost.queue, sum);
  t.same(
    slow.events,
    [...slow.events].sort((a, b) => Number(a) - Number(b)),
  );
  t.ok(slow.events.length * 500 < 1.2 * 1024 * 1024, "its queue is bounded");
  t.ok(slow.largest <= 64 * 1024);
  source.add(1, { response: 1 });
  await until(() => slow.events.at(-1) === String(batches * 100 + 1));
  streams.close();
});

t.test("one that reads the past slowly loses nothing that is kept", async (t) => {
  const source = new Source(8 * 1024 * 1024);
  const streams = new EventStreams(source.history);
  source.add(5000, { path: `/${"d".repeat(800)}` });
  const slow = new Client(false);
  subscribe(streams, slow, {});
  await sleep(50);
  slow.resume();
  await until(() => slow.ended !== undefined);
  t.same(slow.items, ["opened 1 5001", ...range(1, 5000)]);
});

t.test("what the history has forgotten, and what the daemon never had, is told", async (t) => {
  const source = new Source(8 * 1024);
  const streams = new EventStreams(source.history);
  source.add(100);
  const oldest = source.history.at(source.history.first)?.view.seq ?? 0;
  t.ok(oldest > 20);
  const read = async (request: MessageInitShape<typeof WatchRequestSchema>): Promise<string[]> => {
    const client = new Client();
    subscribe(streams, client, request);
    await until(() => client.ended !== undefined);
    return client.losses;
  };
  t.same(await read({ since: { case: "sinceSequence", value: 11n } }), [`lost ${oldest - 11} HISTORY`]);
  t.same(await read({ since: { case: "sinceTime", value: timestampFromMs(11) } }), ["lost 0 HISTORY"], "how many?");
  t.same(await read({ since: { case: "sinceTime", value: timestampFromMs(oldest) } }), []);
  t.same(await read({}), [], "it asked for what there is");

  const live = new Client();
  subscribe(streams, live);
  source.skip(2);
  source.lose(3);
  source.add(1);
  await until(() => live.events.length === 1);
  t.same(live.items, ["opened 1 101".replace("1", String(oldest)), "lost 3 RECORD", "106"]);
  t.same(await read({ since: { case: "sinceSequence", value: 100n } }), ["lost 3 RECORD"]);
  t.same(
    await read({ since: { case: "sinceSequence", value: 105n } }),
    ["lost 1 RECORD"],
    "of those that it asked for",
  );
  t.same(await read({ since: { case: "sinceSequence", value: 106n } }), []);
  const before = streams.lost.history;
  source.add(1000); // at once: more than the history has
  await until(() => live.events.at(-1) === "1106");
  const gone = Number(/^lost (\d+) HISTORY$/.exec(live.losses.at(-1) ?? "")?.[1]);
  t.equal(live.events.length - 1 + gone, 1000);
  t.equal(streams.lost.history - before, gone);
  streams.close();
});

t.test("a subscriber too many is refused, as is a number of another run", async (t) => {
  const source = new Source();
  const streams = new EventStreams(source.history);
  source.add(3);
  const wrong = () => subscribe(streams, new Client(), { since: { case: "sinceSequence", value: 5n } });
  t.throws(wrong, { message: /^since_sequence: the next event is 4: / });
  const ends = Array.from({ length: 64 }, () => subscribe(streams, new Client()));
  t.throws(() => subscribe(streams, new Client()), { message: /^64 clients follow/ });
  ends[0]?.();
  ends[0]?.();
  t.equal(streams.subscribers, 63);
  subscribe(streams, new Client());
  streams.close();
  t.equal(streams.subscribers, 0);
});

t.test("the daemon's end: what has come is sent, then each stream ends, taken or not", async (t) => {
  const source = new Source();
  const streams = new EventStreams(source.history);
  const [brisk, stuck] = [new Client(), new Client(false)];
  for (const client of [brisk, stuck]) subscribe(streams, client);
  source.add(3);
  streams.close();
  for (const client of [brisk, stuck]) {
    t.same(client.events, ["1", "2", "3"]);
    t.match(client.ended?.error, { data: { kind: "unavailable" }, message: "the daemon is stopping" });
  }
  t.throws(() => subscribe(streams, new Client()), { message: "the daemon is stopping" });
  source.add(1);
  await sleep(30);
  t.equal(brisk.events.length, 3);
});
