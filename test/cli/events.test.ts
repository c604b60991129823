/** `janusctl events` and `top`, on a server that says what a test wants. */
import { Readable } from "node:stream";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Server, ServerCredentials, type ServerWritableStream } from "@grpc/grpc-js";
import t from "tap";
import { parseSince } from "../../src/cli/event-options.js";
import { janusctl } from "../../src/cli/janusctl.js";
import type { Terminal } from "../../src/cli/session.js";
import {
  type Event,
  type EventSchema,
  EventService,
  LostCause,
  Response,
  type WatchItemSchema,
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
} from "../../src/gen/janus/v1/events_pb.js";
import { serviceDefinition } from "../../src/rpc/definition.js";

type Item = { item: NonNullable<MessageInitShape<typeof WatchItemSchema>["item"]> };
type EventInit = Exclude<MessageInitShape<typeof EventSchema>, Event>;

// The servers of this test speak plaintext TCP.
process.env["JANUSD_INSECURE"] = "true";

const eventOf = (rest: EventInit = {}): Item => ({
  item: {
    case: "event",
    value: {
      sequence: 7n,
      time: timestampFromMs(1_700_000_000_123),
      response: Response.DENY,
      event: "open",
      path: "/etc/app/password",
      answered: true,
      blockedNs: 12_340,
      subject: {
        guard: "demo",
        namespace: "web",
        pod: "web-1",
        node: "n",
        container: "ab".repeat(32),
        tags: { a: "b" },
      },
      process: {
        pid: 4711,
        uid: 1000,
        comm: "cat",
        executable: "/bin/cat",
        inside: true,
        ancestry: [{ pid: 1, comm: "sh" }],
      },
      ...rest,
    },
  },
});
const opened: Item = { item: { case: "opened", value: { oldestSequence: 1n, nextSequence: 8n } } };
const lost = (count: bigint, cause: LostCause): Item => ({ item: { case: "lost", value: { count, cause } } });

/** Says all of `items` in messages of a hundred, and ends. */
async function serve(t: Pick<typeof import("tap").t, "teardown">, items: readonly Item[]) {
  const requests: WatchRequest[] = [];
  const server = new Server();
  server.addService(serviceDefinition(EventService), {
    watch: (call: ServerWritableStream<WatchRequest, WatchResponse>) => {
      requests.push(call.request);
      for (let at = 0; at < items.length; at += 100)
        call.write(create(WatchResponseSchema, { items: items.slice(at, at + 100) }));
      call.end();
    },
  });
  t.teardown(() => server.forceShutdown());
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { address: `127.0.0.1:${port}`, requests };
}

async function run(args: readonly string[], terminal?: Terminal): Promise<{ exit: number; out: string; err: string }> {
  let [out, err] = ["", ""];
  const exit = await janusctl(args, {
    stdin: Readable.from([]),
    stdout: (text) => {
      out += text;
    },
    stderr: (text) => {
      err += text;
    },
    terminal,
  });
  return { exit, out, err };
}

const screen = (color: boolean): Terminal => ({ color, size: () => ({ columns: 40, rows: 6 }) });

t.test("text: one line an event; losses are told apart from them", async (t) => {
  const items = [
    opened,
    eventOf(),
    lost(3n, LostCause.QUEUE),
    lost(0n, LostCause.HISTORY),
    eventOf({ response: Response.AUDIT, deniers: [{ name: "other", namespace: "", auditing: true }] }),
    eventOf({ deniers: [{ name: "other", namespace: "", auditing: true }] }),
  ];
  const { address } = await serve(t, items);
  const { exit, out, err } = await run(["events", "--address", address]);
  t.equal(exit, 0);
  t.same(out.split("\n"), [
    "2023-11-14T22:13:20.123Z DENY open '/etc/app/password' web-1/abababababab web/demo cat[4711]",
    "2023-11-14T22:13:20.123Z AUDIT open '/etc/app/password' web-1/abababababab web/demo,other cat[4711]",
    "2023-11-14T22:13:20.123Z DENY open '/etc/app/password' web-1/abababababab web/demo,other(audit) cat[4711]",
    "",
  ]);
  t.match(err, /^janusctl: 3 events lost: they came faster .*\njanusctl: events lost: the daemon keeps no more .*\n$/);
});

t.test("a rename shows both names", async (t) => {
  const { address } = await serve(t, [
    opened,
    eventOf({ event: "move", path: "/a", newPath: "/b\n" }),
    eventOf({ event: "movedto", path: "/in", oldPath: "/caf\ufffd", oldPathBytes: Buffer.from("/caf\xe9", "latin1") }),
    eventOf({ event: "movedfrom", path: "/out" }),
  ]);
  const { out } = await run(["events", "--address", address]);
  t.same(
    out
      .trim()
      .split("\n")
      .map((line) => line.replace(/ web-1.*/, "").split("DENY ")[1]),
    ["move '/a' -> '/b\\x0a'", "movedto '/caf\\xe9' -> '/in'", "movedfrom '/out'"],
  );
});

t.test("wide has the rest", async (t) => {
  const { address } = await serve(t, [eventOf()]);
  const { out } = await run(["events", "-o", "wide", "--address", address]);
  t.match(out, " cat[4711] uid=1000 exe='/bin/cat' by=sh[1] node=n seq=7 blocked=12.3us a=b\n");
});

t.test("json: one object a line, also of what is lost", async (t) => {
  const { address } = await serve(t, [opened, eventOf({ path: "/a\u009b" }), lost(2n, LostCause.RECORD)]);
  const { out, err } = await run(["events", "-o", "json", "--address", address]);
  t.equal(err, "");
  const [event, loss, end] = out.split("\n");
  t.notMatch(out, "\u009b");
  t.match(JSON.parse(event ?? ""), {
    event: {
      sequence: "7",
      time: "2023-11-14T22:13:20.123Z",
      response: "RESPONSE_DENY",
      path: "/a\u009b",
      subject: { guard: "demo", tags: { a: "b" } },
      process: { pid: 4711, uid: 1000, ancestry: [{ pid: 1, comm: "sh" }], ancestryCut: false },
      late: false,
    },
  });
  t.match(JSON.parse(loss ?? ""), { lost: { count: "2", cause: "LOST_CAUSE_RECORD" } });
  t.equal(end, "");
});

t.test("colour on a terminal only, and not against the user's will", async (t) => {
  const { address } = await serve(t, [
    eventOf(),
    eventOf({ response: Response.AUDIT }),
    eventOf({ response: Response.ALLOW }),
  ]);
  const args = ["events", "--address", address];
  const colored = (await run(args, screen(true))).out;
  t.match(colored, " \u001b[31mDENY\u001b[0m open ");
  t.match(colored, " \u001b[33mAUDIT\u001b[0m open ");
  t.match(colored, " ALLOW open ");
  for (const terminal of [undefined, screen(false)]) t.notMatch((await run(args, terminal)).out, "\u001b");
});

t.test("what a container calls its files and programs moves no cursor and makes no line", async (t) => {
  const evil = "\u001b[2J\n\u009b31m\u202e'\\x";
  const process = { pid: 1, comm: evil, executable: evil, ancestry: [{ pid: 2, comm: evil }] };
  const item = eventOf({ path: evil, process, pathBytes: Buffer.from([0x2f, 0xff, 0x1b]) });
  const { address } = await serve(t, [opened, item, eventOf({ path: evil, process })]);
  for (const format of ["text", "wide", "json"]) {
    const { out } = await run(["events", "-o", format, "--address", address], screen(false));
    t.equal(out.split("\n").length, 3, format);
    t.notMatch(out.replaceAll("\n", ""), /[\p{Cc}\u202e]/u, format);
  }
  t.match((await run(["events", "--address", address])).out, "'/\\xff\\x1b'");
  for (const by of ["path", "exe"]) {
    const { out } = await run(["top", "--once", "--interval", "60", "--by", by, "--address", address]);
    t.notMatch(out.replaceAll("\n", ""), /[\p{Cc}\u202e]/u, by);
  }
});

t.test("flags become filters", async (t) => {
  const { address, requests } = await serve(t, []);
  const only = [
    "--deny",
    "--audit",
    "--guard",
    "a",
    "--guard",
    "b",
    "-n",
    "ns",
    "--pod",
    "p",
    "--container",
    "c",
    "--event",
    "exec",
  ];
  const more = ["--path", "/etc/*", "--exe", "/bin/sh", "--uid", "0", "--uid", "7", "--since", "12"];
  const claims = ["--asked", "./x", "--argv0", "-sh"];
  const not = [
    "--not",
    "path=/tmp=x",
    "--not",
    "path=/run",
    "--not",
    "uid=5",
    "--not",
    "response=allow",
    "--not",
    "guard=z",
    "--not",
    "asked=y",
    "--not",
    "argv0=wget",
  ];
  t.match(await run(["events", ...only, ...more, ...claims, ...not, "--address", address]), {
    exit: 0,
    out: "",
    err: "",
  });
  t.match(requests, [
    {
      follow: false,
      since: { case: "sinceSequence", value: 12n },
      include: {
        responses: [Response.DENY, Response.AUDIT],
        guards: ["a", "b"],
        namespaces: ["ns"],
        pods: ["p"],
        containers: ["c"],
        events: ["exec"],
        paths: ["/etc/*"],
        executables: ["/bin/sh"],
        uids: [0, 7],
        asked: ["./x"],
        argv0: ["-sh"],
      },
      exclude: {
        paths: ["/tmp=x", "/run"],
        uids: [5],
        responses: [Response.ALLOW],
        guards: ["z"],
        asked: ["y"],
        argv0: ["wget"],
      },
    },
  ]);
});

t.test("since: ago, a time, a number", async (t) => {
  const at = (text: string): number => {
    const since = parseSince(text, undefined, 1_700_000_000_000);
    return since.case === "sinceTime" ? timestampMs(since.value) : Number.NaN;
  };
  t.equal(at("30s"), 1_699_999_970_000);
  t.equal(at("5m"), 1_699_999_700_000);
  t.equal(at("2h"), 1_699_992_800_000);
  t.equal(at("1d"), 1_699_913_600_000);
  t.equal(at("2023-11-14T22:13:20.5Z"), 1_700_000_000_500);
  t.equal(at("2023-11-14T23:13:20+01:00"), 1_700_000_000_000);
  t.match(parseSince("0"), { case: "sinceSequence", value: 0n });
});

t.test("a flag that makes no sense: one line, status 2", async (t) => {
  const wrong = [
    ["--since", "yesterday"],
    ["--since", "-5m"],
    ["--since", "2023-99-99T00:00:00Z"],
    ["--uid", "root"],
    ["--uid", "4294967296"],
    ["--not", "colour=red"],
    ["--not", "toString=red"],
    ["--not", "response=constructor"],
    ["--not", "path"],
    ["-o", "xml"],
  ];
  for (const args of wrong) {
    const { exit, out, err } = await run(["events", ...args]);
    t.equal(exit, 2, args.join(" "));
    t.equal(out, "");
    t.match(err, /^error: [^\n]+\n$/, err);
  }
  for (const args of [
    ["--interval", "0"],
    ["--by", "colour"],
  ])
    t.equal((await run(["top", ...args])).exit, 2);
});

t.test("top: rates by guard, pod, path or program; the busiest first", async (t) => {
  const items = [
    opened,
    ...Array.from({ length: 30 }, () => eventOf()),
    ...Array.from({ length: 3 }, () => eventOf({ path: "/x", response: Response.ALLOW })),
    ...Array.from({ length: 2 }, () => eventOf({ path: "/x", response: Response.AUDIT })),
    lost(4n, LostCause.QUEUE),
  ];
  const { address } = await serve(t, items);
  const rows = async (...args: string[]) =>
    (await run(["top", "--interval", "10", ...args, "--address", address])).out
      .split("\n")
      .map((line) => line.split(/ {3,}/));
  t.same(await rows("--by", "path"), [
    ["4 events lost"],
    ["DENIED/S", "AUDITED/S", "ALLOWED/S", "EVENTS", "PATH"],
    ["3.0", "0.0", "0.0", "30", "/etc/app/password"],
    ["0.0", "0.2", "0.3", "5", "/x"],
    [""],
  ]);
  t.same((await rows())[2], ["3.0", "0.2", "0.3", "35", "web/demo"]);
  t.same((await rows("--by", "pod"))[2], ["3.0", "0.2", "0.3", "35", "web-1"]);
  t.same((await rows("--by", "exe", "--interval", "20"))[2], ["1.5", "0.1", "0.1", "35", "/bin/cat"]);
});

t.test("top counts no more than 10,000 names apart, whatever a container calls its files", async (t) => {
  const items = [opened, ...Array.from({ length: 12_000 }, (_, index) => eventOf({ path: `/${index}` }))];
  const { address } = await serve(t, items);
  const lines = (await run(["top", "--interval", "60", "--by", "path", "--address", address])).out.split("\n");
  t.equal(lines.length, 1 + 10_000 + 1 + 1);
  t.match(lines.at(-2), /^33\.3 .* 2000 +\(others\)$/);
});

t.test("top on a terminal: what fits, from its upper left", async (t) => {
  const items = [opened, ...Array.from({ length: 20 }, (_, index) => eventOf({ path: `/${index}${"x".repeat(100)}` }))];
  const { address } = await serve(t, items);
  const { out } = await run(["top", "--once", "--by", "path", "--address", address], screen(false));
  t.equal(out.split("\n").length, 22, "--once: all of it");
  const shown = await new Promise<string>((resolve, reject) => {
    const io = { stdin: Readable.from([]), stdout: resolve, stderr: reject, terminal: screen(false) };
    void janusctl(["top", "--by", "path", "--address", address], io);
  });
  const lines = shown.split("\n");
  t.equal(lines.length, 5);
  t.ok(lines[0]?.startsWith("\u001b[H\u001b[JDENIED"));
  for (const line of lines.slice(1)) t.equal(line.length, 40);
});
