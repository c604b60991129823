import type { Buffer } from "node:buffer";
import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import type { FileEventView } from "../../src/event/decode.js";
import { FLAG } from "../../src/event/layout.js";
import { EventPipeline } from "../../src/event/pipeline.js";
import type { Sink } from "../../src/event/sink.js";
import type { Deniers, SubjectContext } from "../../src/subject.js";
import { encodeRecord, subjectOf } from "../support/records.js";

/** Like the engine's ring: whole records, in order, as many as fit. */
class Ring {
  drains = 0;
  readonly #records: Buffer[] = [];

  push(...records: Buffer[]): void {
    this.#records.push(...records);
  }

  readonly drain = (into: Uint8Array): number => {
    this.drains++;
    let bytes = 0;
    for (
      let next = this.#records[0];
      next !== undefined && bytes + next.length <= into.length;
      next = this.#records[0]
    ) {
      into.set(next, bytes);
      bytes += next.length;
      this.#records.shift();
    }
    return bytes;
  };
}

class Collector implements Sink {
  readonly lines: string[] = [];
  flushes = 0;
  closed = 0;
  readonly dropped = 0;
  readonly drops = {};
  readonly queueBytes = 0;

  constructor(readonly name = "collector") {}

  write(view: FileEventView, subject: SubjectContext, { others, cut }: Deniers): void {
    const deniers = [...others.map(({ guard }) => guard), ...(cut ? ["and more"] : [])];
    this.lines.push([`${view.seq} ${subject.guard} ${view.path}`, ...deniers].join(" + "));
  }

  flush(): void {
    this.flushes++;
  }

  async close(): Promise<void> {
    this.closed++;
  }
}

class Broken extends Collector {
  override write(): void {
    throw new Error("no write");
  }
  override flush(): void {
    throw new Error("no flush");
  }
  override async close(): Promise<void> {
    throw new Error("no close");
  }
}

const lookup = (id: number) => (id === 1 ? subjectOf() : undefined);

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(1);
}

t.test("other guards that deny come with their names, and what has none shows", async (t) => {
  const ring = new Ring();
  const sink = new Collector();
  const guards = new Map(["a", "b", "c"].map((guard, id) => [id, subjectOf({ guard })]));
  const pipeline = new EventPipeline({
    engine: ring,
    lookup: (id) => guards.get(id),
    sinks: [sink],
    bufferBytes: 1024,
  });
  const record = (seq: bigint, deniers: number[], flags = 0) =>
    encodeRecord({ seq, subjectId: 0, path: "/x", deniers, flags });
  ring.push(record(1n, [1, 2]), record(2n, []), record(3n, [1, 9]), record(4n, [2], FLAG.deniersCut));
  await pipeline.close();
  t.same(sink.lines, ["1 a /x + b + c", "2 a /x", "3 a /x + b + and more", "4 a /x + c + and more"]);
});

t.test("a wake-up brings everything in the ring to every sink, and flushes once a batch", async (t) => {
  const ring = new Ring();
  const sinks = [new Collector("one"), new Collector("two")];
  const pipeline = new EventPipeline({ engine: ring, lookup, sinks, bufferBytes: 1 });
  ring.push(encodeRecord({ seq: 1n, path: "/a" }), encodeRecord({ seq: 2n, path: "/b" }));
  pipeline.wake();
  pipeline.wake();
  t.equal(ring.drains, 0, "not within the wake-up");
  await until(() => sinks[1]?.lines.length === 2);
  ring.push(encodeRecord({ seq: 3n, path: "/c" }));
  pipeline.wake();
  await until(() => sinks[1]?.lines.length === 3);
  for (const sink of sinks) {
    t.same(sink.lines, ["1 passwords /a", "2 passwords /b", "3 passwords /c"]);
    t.equal(sink.flushes, 2);
  }
  t.match(pipeline.stats, { delivered: 3, missing: 0, unattributed: 0, malformed: 0 });
  await pipeline.close();
});

t.test("it goes quiet when the ring is empty", async (t) => {
  const ring = new Ring();
  const pipeline = new EventPipeline({ engine: ring, lookup, sinks: [], bufferBytes: 1 });
  pipeline.wake();
  await until(() => ring.drains > 0);
  await sleep(20);
  t.equal(ring.drains, 1);
  await pipeline.close();
});

t.test("the event loop stays alive under a storm", async (t) => {
  const record = encodeRecord({});
  const engine = {
    // Never empty.
    drain: (into: Uint8Array): number => {
      const records = Math.floor(into.length / record.length);
      for (let i = 0; i < records; i++) into.set(record, i * record.length);
      return records * record.length;
    },
  };
  const pipeline = new EventPipeline({ engine, lookup, sinks: [], bufferBytes: 1 });
  pipeline.wake();
  await until(() => pipeline.stats.delivered > 0);
  const server = createServer((socket) => socket.end("alive")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const { connect } = await import("node:net");
  const before = pipeline.stats.delivered;
  const [data] = await once(connect(address.port, "127.0.0.1"), "data");
  t.equal(String(data), "alive");
  t.ok(pipeline.stats.delivered > before, "while events went on");
  server.close();
  engine.drain = () => 0;
  await pipeline.close();
});

t.test("a gap in the sequence is counted, also before the first record", async (t) => {
  const ring = new Ring();
  const pipeline = new EventPipeline({ engine: ring, lookup, sinks: [], bufferBytes: 1 });
  ring.push(...[3n, 4n, 8n].map((seq) => encodeRecord({ seq })));
  await pipeline.close();
  t.match(pipeline.stats, { delivered: 3, missing: 2 + 3 });
});

t.test("an event of a subject that nobody knows is counted, not delivered", async (t) => {
  const ring = new Ring();
  const sink = new Collector();
  const pipeline = new EventPipeline({ engine: ring, lookup, sinks: [sink], bufferBytes: 1 });
  ring.push(encodeRecord({ seq: 1n, subjectId: 99 }), encodeRecord({ seq: 2n, path: "/a" }));
  await pipeline.close();
  t.same(sink.lines, ["2 passwords /a"]);
  t.match(pipeline.stats, { delivered: 1, unattributed: 1, missing: 0 });
});

t.test("a sink that throws is counted and reported once, and harms no other", async (t) => {
  const ring = new Ring();
  const before = new Collector("before");
  const after = new Collector("after");
  const reports: string[] = [];
  const pipeline = new EventPipeline({
    engine: ring,
    lookup,
    sinks: [before, new Broken("broken"), after],
    bufferBytes: 1,
    onFailure: (what, error) => reports.push(`${what}: ${error instanceof Error ? error.message : error}`),
  });
  ring.push(encodeRecord({ seq: 1n }), encodeRecord({ seq: 2n }));
  await pipeline.close();
  t.equal(before.lines.length, 2);
  t.equal(after.lines.length, 2);
  t.equal(after.closed, 1);
  t.same(pipeline.stats.failures, { before: 0, broken: 4, after: 0 });
  t.same(reports, ["sink broken: no write"]);
});

t.test("a batch that makes no sense is given up at the fault, and the next is read", async (t) => {
  const ring = new Ring();
  const sink = new Collector();
  const reports: string[] = [];
  const pipeline = new EventPipeline({
    engine: ring,
    lookup,
    sinks: [sink],
    bufferBytes: 1,
    onFailure: (what) => reports.push(what),
  });
  const bad = encodeRecord({ seq: 2n });
  bad.writeUInt32LE(0, 0);
  ring.push(encodeRecord({ seq: 1n, path: "/a" }), bad);
  pipeline.wake();
  await until(() => pipeline.stats.malformed === 1);
  ring.push(encodeRecord({ seq: 3n, path: "/c" }));
  await pipeline.close();
  t.same(sink.lines, ["1 passwords /a", "3 passwords /c"]);
  t.same(reports, ["event batch"]);
});

t.test("close delivers what is there, closes the sinks once, and ends", async (t) => {
  const ring = new Ring();
  const sink = new Collector();
  const pipeline = new EventPipeline({ engine: ring, lookup, sinks: [sink], bufferBytes: 1 });
  ring.push(...Array.from({ length: 5000 }, (_, index) => encodeRecord({ seq: BigInt(index + 1) })));
  pipeline.wake();
  await Promise.all([pipeline.close(), pipeline.close()]);
  t.equal(sink.lines.length, 5000);
  t.equal(sink.closed, 1);
  const drains = ring.drains;
  pipeline.wake();
  await sleep(20);
  t.equal(ring.drains, drains, "a wake-up that comes late finds nobody");
});

t.test("close ends, however much is in the ring", async (t) => {
  const failures: string[] = [];
  const record = encodeRecord({ path: "/a" });
  const sink = new Collector();
  const pipeline = new EventPipeline({
    engine: {
      drain: (into) => {
        into.set(record);
        return record.length;
      },
    },
    lookup,
    sinks: [sink],
    bufferBytes: 4096,
    closingMs: 20,
    onFailure: (what) => failures.push(what),
  });
  await pipeline.close();
  t.same(failures, ["telling the last events"]);
  t.ok(sink.lines.length > 0);
  t.equal(sink.closed, 1);
});

t.test("the largest record fits, whatever the buffer was asked to be", async (t) => {
  const ring = new Ring();
  const sink = new Collector();
  const pipeline = new EventPipeline({ engine: ring, lookup, sinks: [sink], bufferBytes: 1 });
  ring.push(encodeRecord({ path: "p".repeat(65535), exe: "e".repeat(65535) }));
  await pipeline.close();
  t.equal(sink.lines.length, 1);
});
