import { Buffer } from "node:buffer";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { hasCode } from "../../src/errors.js";
import { FLAG } from "../../src/event/layout.js";
import type { Sink } from "../../src/event/sink.js";
import { openLogSink } from "../../src/sink/log.js";
import { type Deniers, NO_DENIERS, type SubjectContext } from "../../src/subject.js";
import { type RecordFields, subjectOf, viewOf } from "../support/records.js";

const directory = mkdtempSync(join(tmpdir(), "janusd-log-"));
t.teardown(() => rmSync(directory, { recursive: true }));

const subject = subjectOf({ logFormat: "{seq} {path}" });
const view = viewOf({ path: "/etc/passwd" });

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(1);
}

async function logged(
  format: "text" | "json",
  events: [RecordFields, Partial<SubjectContext>?, Deniers?][],
): Promise<string> {
  const file = join(directory, "log");
  const fd = openSync(file, "w");
  const sink = openLogSink({ format, to: fd });
  for (const [fields, context, deniers] of events)
    sink.write(viewOf(fields), subjectOf(context), deniers ?? NO_DENIERS);
  sink.flush();
  await sink.close();
  closeSync(fd);
  return readFileSync(file, "utf8");
}

/** Writes batches of numbered lines, of about 64 KiB each, until `enough`; returns how many lines. */
async function flood(sink: Sink, enough: () => boolean): Promise<number> {
  const padded = viewOf({ path: `/${"x".repeat(1000)}` });
  let lines = 0;
  while (!enough()) {
    for (let i = 0; i < 64; i++, lines++) sink.write(padded, subject, NO_DENIERS);
    sink.flush();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return lines;
}

function makeFifo(name: string): { path: string; openReader: () => number; openWriter: () => number } {
  const path = join(directory, name);
  spawnSync("mkfifo", [path]);
  return {
    path,
    openReader: () => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK),
    openWriter: () => openSync(path, constants.O_WRONLY),
  };
}

/** Reads what is there, without waiting. */
function readSome(fd: number): string {
  const chunk = Buffer.alloc(1 << 20);
  let out = "";
  try {
    for (let bytes = readSync(fd, chunk); bytes > 0; bytes = readSync(fd, chunk))
      out += chunk.toString("latin1", 0, bytes);
  } catch (error) {
    if (!hasCode(error, "EAGAIN")) throw error;
  }
  return out;
}

t.test("text lines, each in its guard's format", async (t) => {
  const text = await logged("text", [
    [{ kind: 1, path: "/path/to/file.ext" }],
    [{ path: "/b", response: 1 }, { logFormat: "{response} {path}" }],
    [{ path: "/c\n" }, { logFormat: "{path}" }],
  ]);
  t.equal(text, "<ALLOW> ACCESS_PERM file '/path/to/file.ext' (foo-1-pod:barnode) foo=bar\nDENY /b\n/c\\x0a\n");
});

t.test("a rename shows both names, old and new, where they are known", async (t) => {
  const latin = Buffer.from("/caf\xe9", "latin1");
  const events: [RecordFields, Partial<SubjectContext>?][] = [
    [{ kind: 13, flags: FLAG.watched, path: "/a", other: "/b\n" }],
    [{ kind: 11, flags: FLAG.watched, path: "/in", other: latin }],
    [{ kind: 10, flags: FLAG.watched | FLAG.merged | FLAG.found, path: "/out" }],
    [{ kind: 11, path: "/in", other: "/was" }, { logFormat: "{oldPath} {newPath} {path}" }],
    [{ kind: 7, path: "/made" }, { logFormat: "{oldPath}{newPath} {path}" }],
  ];
  const text = (await logged("text", events)).trim().split("\n");
  t.same(text, [
    "<ALLOW> MOVE file '/a' -> '/b\\x0a' (foo-1-pod:barnode) foo=bar",
    "<ALLOW> MOVED_TO file '/caf\\xe9' -> '/in' (foo-1-pod:barnode) foo=bar",
    "<ALLOW> MOVED_FROM file '/out' (foo-1-pod:barnode) foo=bar",
    "/was /in /in",
    " /made",
  ]);
  const json = (await logged("json", events))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  t.match(json[0], {
    event: "MOVE",
    path: "/a",
    newPath: "/b\n",
    oldPath: undefined,
    merged: undefined,
    found: undefined,
  });
  t.match(json[1], { path: "/in", oldPath: "/caf\ufffd", oldPathBytes: latin.toString("base64"), newPath: undefined });
  t.match(json[2], { path: "/out", oldPath: undefined, newPath: undefined, merged: true, found: true });
});

t.test("several guards deny: each is named, in the default format and in JSON", async (t) => {
  const deniers = { others: [subjectOf({ guard: "keys" }), subjectOf({ guard: "all", namespace: "ops" })], cut: false };
  const fields = { path: "/b", response: 1 };
  const text = await logged("text", [
    [fields, {}, deniers],
    [fields, { logFormat: "{path} {guards}" }, deniers],
    [fields, { logFormat: "{path}" }, deniers],
  ]);
  const names = "default/passwords, default/keys, ops/all";
  t.equal(text, `<DENY> OPEN_PERM file '/b' (foo-1-pod:barnode) foo=bar denied by ${names}\n/b ${names}\n/b\n`);
  const json = (await logged("json", [[fields, {}, deniers], [fields, {}, { others: [], cut: true }], [fields]]))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  t.match(json[0], { guard: "passwords", guards: names.split(", "), guardsCut: false });
  t.match(json[1], { guards: ["default/passwords"], guardsCut: true });
  t.notOk("guards" in json[2], "one guard's events are as they were");
});

t.test("JSON lines hold every field", async (t) => {
  const fields: RecordFields = {
    seq: 9n,
    timeNs: 1_700_000_000_123_456_789n,
    blockedNs: 8123,
    pid: 12,
    ppid: 11,
    uid: 1000,
    kind: 2,
    response: 1,
    flags: FLAG.answered | FLAG.audited | FLAG.late | FLAG.inside | FLAG.cut,
    comm: 'a"b\n',
    exe: "/bin/ü",
    path: '/tmp/"quoted"\n\\',
    startNs: 1_700_000_000_000_000_001n,
    ancestry: [{ pid: 11, comm: '"\n', exe: "/bin/ü" }],
  };
  const line = await logged("json", [[fields]]);
  t.equal(line.indexOf("\n"), line.length - 1, "one line");
  t.strictSame(JSON.parse(line), {
    time: "2023-11-14T22:13:20.123456789Z",
    node: "barnode",
    namespace: "default",
    pod: "foo-1-pod",
    container: "c".repeat(64),
    containerName: "web",
    guard: "passwords",
    subject: 0,
    tags: { foo: "bar" },
    response: "DENY",
    event: "OPEN_EXEC_PERM",
    answered: true,
    path: '/tmp/"quoted"\n\\',
    ftype: "file",
    pid: 12,
    start: "2023-11-14T22:13:20.000000001Z",
    ppid: 11,
    uid: 1000,
    comm: 'a"b\n',
    exe: "/bin/ü",
    inside: true,
    ancestry: [{ pid: 11, comm: '"\n', exe: "/bin/ü" }],
    ancestryCut: true,
    blockedNs: 8123,
    seq: 9,
    owner: false,
    late: true,
    audited: true,
  });
});

t.test("JSON: a path that is not UTF-8 comes as bytes too", async (t) => {
  const path = Buffer.of(0x2f, 0xff, 0x22);
  const [line, plain] = (await logged("json", [[{ path, flags: FLAG.directory | FLAG.owner }], [{}]]))
    .trim()
    .split("\n");
  const event = JSON.parse(line ?? "");
  t.match(event, {
    path: '/\ufffd"',
    pathBytes: path.toString("base64"),
    ftype: "directory",
    owner: true,
    answered: false,
  });
  t.notOk("pathBytes" in JSON.parse(plain ?? ""));
});

t.test("a full device: lines are counted, and nothing else happens", async (t) => {
  const fd = openSync("/dev/full", "w");
  const sink = openLogSink({ format: "text", to: fd });
  for (let i = 0; i < 3; i++) {
    for (let line = 0; line < 10; line++) sink.write(view, subject, NO_DENIERS);
    sink.flush();
    await until(() => sink.queueBytes === 0);
  }
  await sink.close();
  t.equal(sink.drops["no_space"], 30);
  t.equal(sink.dropped, 30);
  closeSync(fd);
});

t.test(
  "a disk that runs full and is freed again: what was counted is missing, the rest is whole",
  { skip: process.getuid?.() !== 0 && "mounting a small tmpfs needs root" },
  async (t) => {
    const disk = mkdtempSync(join(directory, "disk-"));
    t.equal(spawnSync("mount", ["-t", "tmpfs", "-o", "size=256k", "janusd-log-test", disk]).status, 0);
    t.teardown(() => spawnSync("umount", [disk]));
    const ballast = join(disk, "ballast");
    writeFileSync(ballast, Buffer.alloc(128 * 1024));
    const file = join(disk, "log");
    const fd = openSync(file, "a");
    const sink = openLogSink({ format: "text", to: fd });
    let lines = await flood(sink, () => sink.dropped > 0);
    await until(() => sink.queueBytes === 0);
    rmSync(ballast);
    for (let i = 0; i < 10; i++, lines++) sink.write(view, subject, NO_DENIERS);
    sink.flush();
    await sink.close();
    closeSync(fd);
    const written = readFileSync(file, "utf8").trimEnd().split("\n");
    const whole = written.filter((line) => line === `1 /${"x".repeat(1000)}` || line === "1 /etc/passwd");
    t.ok(written.length - whole.length <= 1, "at most the line at which the disk was full is torn");
    t.equal(whole.length, lines - (sink.drops["no_space"] ?? 0));
    t.same(written.slice(-10), Array(10).fill("1 /etc/passwd"));
  },
);

t.test("a reader that stops: bounded, counted, and in order when it goes on", async (t) => {
  const fifo = makeFifo("stopped");
  const reader = fifo.openReader();
  const writer = fifo.openWriter();
  const flags = () => /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${writer}`, "utf8"))?.[1];
  const before = flags();
  const sink = openLogSink({ format: "text", to: writer });
  const lines = await flood(sink, () => sink.dropped > 1000);
  t.ok(sink.queueBytes > 3 * 1024 * 1024 && sink.queueBytes <= 4 * 1024 * 1024, `${sink.queueBytes} bytes wait`);
  t.equal(sink.drops["queue_full"], sink.dropped);
  t.equal(flags(), before, "the caller's descriptor keeps its mode");

  let out = "";
  while (sink.queueBytes > 0) {
    out += readSome(reader);
    await sleep(1);
  }
  sink.write(view, subject, NO_DENIERS);
  await sink.close();
  out += readSome(reader);
  const read = out.trimEnd().split("\n");
  t.equal(read.length, lines + 1 - sink.dropped);
  t.equal(read.pop(), "1 /etc/passwd");
  t.ok(read.every((line) => line.length === 1003));
  closeSync(reader);
  closeSync(writer);
});

t.test("a reader that goes: counted; and one that comes again is served", async (t) => {
  const fifo = makeFifo("closed");
  const reader = fifo.openReader();
  const writer = fifo.openWriter();
  const sink = openLogSink({ format: "text", to: writer });
  const log = () => {
    sink.write(view, subject, NO_DENIERS);
    sink.flush();
  };
  log();
  await until(() => sink.queueBytes === 0);
  t.equal(readSome(reader), "1 /etc/passwd\n");
  closeSync(reader);
  log();
  await until(() => sink.queueBytes === 0);
  log();
  t.equal(sink.drops["closed"], 2);

  const again = fifo.openReader();
  let out = "";
  while (out === "") {
    log();
    await sleep(50);
    out = readSome(again);
  }
  t.match(out, /^(1 \/etc\/passwd\n)+$/);
  await sink.close();
  closeSync(again);
  closeSync(writer);
});

t.test("closing gives a stopped reader a bounded time, and counts what it did not take", async (t) => {
  const fifo = makeFifo("closing");
  const reader = fifo.openReader();
  const writer = fifo.openWriter();
  const sink = openLogSink({ format: "text", to: writer });
  const lines = await flood(sink, () => sink.queueBytes > 1024 * 1024);
  await Promise.all([sink.close(), sink.close()]);
  t.equal(sink.queueBytes, 0);
  sink.write(view, subject, NO_DENIERS);
  sink.flush();
  const whole = readSome(reader).split("\n").length - 1;
  t.ok(whole > 0 && whole < lines);
  t.equal(sink.drops["shutdown"], lines + 1 - whole);
  t.equal(sink.drops["shutdown"], sink.dropped);
  closeSync(reader);
  closeSync(writer);
});

t.test("a descriptor that isn't open", async (t) => {
  const sink = openLogSink({ format: "text", to: 999 });
  sink.write(view, subject, NO_DENIERS);
  sink.flush();
  t.equal(sink.drops["closed"], 1);
  await sink.close();
});

// The daemon's own situation: the process's stdout, whatever it is.
const child = [...process.execArgv, join(import.meta.dirname, "log-child.ts")];

t.test("a process whose stdout is a pipe that nobody reads ends by itself", async (t) => {
  const script = '"$0" "$@" | sleep 1000 & wait';
  // In a process group of its own, so that the sleeping reader can be ended with it.
  const shell = spawn("sh", ["-c", script, process.execPath, ...child], {
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
  let report = "";
  shell.stderr.setEncoding("utf8").on("data", (data: string) => {
    report += data;
  });
  await until(() => report.endsWith("exit\n"));
  process.kill(-(shell.pid ?? 0), "SIGKILL");
  await once(shell, "close");
  t.match(report, /^queue_full [1-9]\d*, shutdown [1-9]\d*, closed 0, fd 1 is a pipe\nexit\n$/);
});

// Node gives its children socket pairs.
t.test("a process whose stdout is a socket that nobody reads ends by itself", async (t) => {
  const logger = spawn(process.execPath, child, { stdio: ["ignore", "pipe", "pipe"] });
  t.match(await text(logger.stderr), /^queue_full [1-9]\d*, shutdown [1-9]\d*, closed 0, fd 1 is a socket\nexit\n$/);
  logger.stdout.destroy();
});

t.test("when the reader goes, the descriptor stays: no other file gets its number", async (t) => {
  const logger = spawn(process.execPath, child, { stdio: ["ignore", "pipe", "pipe"] });
  logger.stdout.destroy();
  t.match(await text(logger.stderr), /^queue_full 0, shutdown 0, closed [1-9]\d*, fd 1 is a socket\nexit\n$/);
});

t.test("JSON: what is hidden, or ends a line for some reader, is escaped", async (t) => {
  const path = "/a\u2028b\u0085c\u202ed\u009be\u007f'f";
  const [line = ""] = (await logged("json", [[{ path }]])).split("\n");
  t.equal(JSON.parse(line).path, path, "and reads as it is");
  t.match(line, "/a\\u2028b\\u0085c\\u202ed\\u009be\\u007f'f");
});

t.test("JSON: so is what ancestors and subjects are called", async (t) => {
  const hidden = "a\u2028b\u0085c\u202ed";
  const ancestry = [{ pid: 1, comm: hidden, exe: `/${hidden}` }];
  const [line = "", ...rest] = (
    await logged("json", [[{ ancestry }, { pod: hidden, tags: { [hidden]: hidden } }]])
  ).split("\n");
  t.same(rest, [""]);
  t.match(JSON.parse(line), { ancestry, pod: hidden, tags: { [hidden]: hidden } });
  t.notMatch(line, /[\u0080-\u009f\u2028\u2029\u202a-\u202e]/);
});
