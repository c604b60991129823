/**
 * The event stream: what 50 subscribers get of 20,000 events a second, what they lose, what that costs the daemon, and
 * whether a container waits longer for its opens meanwhile.
 */
import { Buffer } from "node:buffer";
import { setTimeout as sleep } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { Client, type ClientReadableStream, credentials } from "@grpc/grpc-js";
import {
  EventService,
  LostSchema,
  WatchItemSchema,
  WatchRequestSchema,
  WatchResponseSchema,
} from "../src/gen/janus/v1/events_pb.js";
import { keepBusy } from "./busy.js";
import type { Figures } from "./figures.js";
import { type Load, LoadedContainer } from "./load.js";
import { threadTimes, timesSince } from "./process.js";
import type { Watched } from "./watched.js";

const SUBSCRIBERS = 50;
/** 20,000 a second, for two seconds. */
const BURST = { opens: 1000, ms: 50, count: 40 } as const;
const OPENS = BURST.opens * BURST.count;
const RUNS = 5;

/** Without subscribers; without, but with a loop that takes a processor, as their process may; and with them. */
type How = "alone" | "busy" | "followed";

/** Counts what comes without making objects of it: it shares the machine with the daemon. */
class Subscribers {
  events = 0;
  lost = 0;
  readonly #clients: readonly Client[];
  readonly #calls: readonly ClientReadableStream<Buffer>[];

  private constructor(address: string) {
    // A connection each, as of as many programs.
    const options = { "grpc.use_local_subchannel_pool": 1 };
    this.#clients = Array.from(
      { length: SUBSCRIBERS },
      () => new Client(address, credentials.createInsecure(), options),
    );
    const request = Buffer.from(toBinary(WatchRequestSchema, create(WatchRequestSchema, { follow: true })));
    const { typeName, method } = EventService;
    const bytes = (value: Buffer): Buffer => value;
    this.#calls = this.#clients.map((client) =>
      client
        .makeServerStreamRequest(`/${typeName}/${method.watch.name}`, bytes, bytes, request)
        .on("data", (response: Buffer) => this.#count(response))
        .on("error", () => undefined),
    );
  }

  /** Resolves when all of them follow. */
  static async open(address: string): Promise<Subscribers> {
    const subscribers = new Subscribers(address);
    await Promise.all(subscribers.#calls.map((call) => new Promise((resolve) => call.once("data", resolve))));
    return subscribers;
  }

  #count(response: Buffer): void {
    const reader = new BinaryReader(response);
    const item = WatchItemSchema.field;
    while (reader.pos < reader.len) {
      const [field, type] = reader.tag();
      if (field !== WatchResponseSchema.field.items.number) {
        reader.skip(type);
        continue;
      }
      const end = reader.uint32() + reader.pos;
      const [kind, kindType] = reader.tag();
      if (kind === item.event.number) this.events++;
      if (kind === item.lost.number) {
        reader.uint32();
        const [first] = reader.tag();
        if (first === LostSchema.field.count.number) this.lost += Number(reader.uint64());
      } else {
        reader.skip(kindType);
      }
      reader.pos = end;
    }
  }

  /** Until as many came, or were told to be lost. */
  async taken(events: number): Promise<void> {
    while (this.events + this.lost < events) await sleep(10);
  }

  [Symbol.dispose](): void {
    for (const call of this.#calls) call.cancel();
    for (const client of this.#clients) client.close();
  }
}

/** Denied opens, as evenly as a timer does it. */
async function openSteadily(load: Load): Promise<void> {
  const begun = performance.now();
  for (let burst = 0; burst < BURST.count; ++burst) {
    await sleep(Math.max(0, begun + burst * BURST.ms - performance.now()));
    await load.open("/g/deny/file", 1, BURST.opens, "denied");
  }
}

export async function stream(figures: Figures, watched: Watched): Promise<void> {
  await using guarded = await LoadedContainer.start({ files: { "/g/deny/file": "" } });
  await using bystander = await LoadedContainer.start({ files: { "/g/deny/file": "", "/open/file": "" } });
  const subject = [{ deny: ["/g/deny"], event: ["open"] }];
  const cid = [guarded, bystander].map(({ container }) => container.id);
  const guard = { name: "stream", podName: "bench", nodeName: "testnode", cid, subject };
  await watched.daemon.createGuard(guard);
  const { pid, grpcAddress } = watched.daemon;
  const cost = async (how: How): Promise<{ readonly events: number; readonly us: number }> => {
    await watched.settle();
    const before = threadTimes(pid);
    const [asked, unasked] = await Promise.all([
      bystander.load.latency("/g/deny/file", BURST.ms * BURST.count),
      bystander.owner.latency("/open/file", BURST.ms * BURST.count),
      openSteadily(guarded.load),
    ]);
    await watched.settle();
    figures.add(`stream_p50_us_${how}`, asked.p50 / 1000);
    figures.add(`stream_p99_us_${how}`, asked.p99 / 1000);
    figures.add(`stream_p99_us_unasked_${how}`, unasked.p99 / 1000);
    const events = OPENS + asked.denied;
    return { events, us: timesSince(pid, before).total / events / 1000 };
  };
  for (let run = 0; run < RUNS; ++run) {
    const lost = await watched.lost();
    const alone = await cost("alone");
    {
      using _ = keepBusy(1);
      await cost("busy");
    }
    using subscribers = await Subscribers.open(grpcAddress);
    const begun = performance.now();
    const streamed = await cost("followed");
    await subscribers.taken(streamed.events * SUBSCRIBERS);
    figures.add("stream_events_per_s", subscribers.events / ((performance.now() - begun) / 1000));
    figures.add("stream_lost", subscribers.lost);
    figures.add("stream_cpu_us_per_event", streamed.us - alone.us);
    const logLost = (await watched.lost()) - lost;
    if (logLost > 0) throw new Error(`the log lost ${logLost} events while others followed`);
  }
  await watched.daemon.destroyGuard(guard);
}
