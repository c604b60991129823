/** The event log's own file: rotated, full, gone. logrotate itself is in test/kernel/log-file.test.ts. */
import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import type { Sink } from "../../src/event/sink.js";
import { openLogFile, openLogSink } from "../../src/sink/log.js";
import type { LogFile } from "../../src/sink/log-file.js";
import { NO_DENIERS } from "../../src/subject.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { subjectOf, viewOf } from "../support/records.js";

const subject = subjectOf({ logFormat: "line {seq}" });

class Log {
  readonly directory = mkdtempSync(join(workspaceDirectory(), "log-file-"));
  readonly path = join(this.directory, "events.log");
  readonly file: LogFile = openLogFile(this.path);
  readonly sink: Sink = openLogSink({ format: "text", to: this.file });
  #seq = 0;

  write(lines: number): void {
    for (let left = lines; left > 0; left--) this.sink.write(viewOf({ seq: BigInt(++this.#seq) }), subject, NO_DENIERS);
    this.sink.flush();
  }

  async settled(): Promise<void> {
    while (this.sink.queueBytes > 0) await sleep(1);
  }

  async close(): Promise<void> {
    await this.sink.close();
    this.file.close();
  }

  read(name = "events.log"): string {
    return readFileSync(join(this.directory, name), "utf8");
  }
}

function opened(t: { teardown(handler: () => Promise<void>): unknown }): Log {
  const log = new Log();
  t.teardown(() => log.close());
  return log;
}

const lines = (from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, index) => `line ${from + index}\n`).join("");

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5);
}

t.test("renamed and opened again, over and over while lines come: each is there once, in order", async (t) => {
  const log = opened(t);
  const rotations = 50;
  for (let rotation = 0; rotation < rotations; rotation++) {
    log.write(100);
    renameSync(log.path, join(log.directory, String(rotation)));
    log.write(100);
    log.file.reopen();
    if (rotation % 3 === 0) log.file.reopen();
    log.write(100);
    if (rotation % 2 === 0) await sleep(1);
    else await log.settled(); // the file is made when it is opened
  }
  await log.settled();
  const all = Array.from({ length: rotations }, (_, rotation) => log.read(String(rotation))).join("") + log.read();
  t.equal(all, lines(1, rotations * 300));
  t.equal(log.file.errors, 0);
  t.equal(log.file.failure, undefined);
  t.equal(log.sink.dropped, 0);
  const descriptors = execFileSync("ls", ["-l", `/proc/${process.pid}/fd`], { encoding: "utf8" });
  t.equal(descriptors.split("\n").filter((line) => line.includes(log.directory)).length, 1, "old ones are closed");
});

t.test("truncated by somebody else: what comes begins at the start", async (t) => {
  const log = opened(t);
  log.write(10);
  await log.settled();
  truncateSync(log.path);
  log.write(5);
  await log.settled();
  t.equal(log.read(), lines(11, 15));
});

t.test("it cannot be opened again: lines go on to the open one, and it is tried again", async (t) => {
  const log = opened(t);
  renameSync(log.path, join(log.directory, "old"));
  mkdirSync(log.path);
  log.file.reopen();
  t.match(log.file.failure, /^cannot be opened again: EISDIR/);
  t.equal(log.file.errors, 1);
  log.write(3);
  await log.settled();
  t.equal(log.read("old"), lines(1, 3));
  t.match(log.file.failure, /^cannot be opened again/, "a line that was written somewhere is no proof");
  rmdirSync(log.path);
  await until(() => log.file.failure === undefined);
  log.write(1);
  await log.settled();
  t.equal(log.read(), lines(4, 4));
});

t.test("it was removed: said until it is opened again", async (t) => {
  const log = opened(t);
  rmSync(log.path);
  await until(() => log.file.failure !== undefined);
  t.equal(log.file.failure, "was removed: SIGHUP has it made again");
  log.file.reopen();
  t.equal(log.file.failure, undefined);
  log.write(2);
  await log.settled();
  t.equal(log.read(), lines(1, 2));
});

t.test("its disk is full: counted and said, until a line gets through", async (t) => {
  const mount = mkdtempSync(join(workspaceDirectory(), "log-full-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "log-file-test", mount]);
  t.teardown(() => execFileSync("umount", ["--lazy", mount]));
  const file = openLogFile(join(mount, "events.log"));
  const sink = openLogSink({ format: "text", to: file });
  const fill = async (): Promise<void> => {
    for (let seq = 1; seq <= 10_000; seq++) sink.write(viewOf({ seq: BigInt(seq) }), subject, NO_DENIERS);
    sink.flush();
    while (sink.queueBytes > 0) await sleep(1);
  };
  await fill();
  t.match(file.failure, /^cannot be written: ENOSPC/);
  t.ok(file.errors > 0);
  t.match(sink.drops, { no_space: sink.dropped });
  t.ok(sink.dropped > 0 && sink.dropped < 10_000, `${sink.dropped} dropped`);
  truncateSync(join(mount, "events.log"));
  sink.write(viewOf({ seq: 1n }), subject, NO_DENIERS);
  sink.flush();
  await until(() => file.failure === undefined);
  t.match(readFileSync(join(mount, "events.log"), "utf8"), /^\n?line 1\n$/);
  await sink.close();
  file.close();
});

t.test("what cannot be a log is told at the start, by the flag's name", async (t) => {
  const directory = mkdtempSync(join(workspaceDirectory(), "log-file-"));
  symlinkSync(join(directory, "elsewhere"), join(directory, "link"));
  execFileSync("mkfifo", [join(directory, "fifo")]);
  for (const [name, reason] of [
    ["missing/events.log", /ENOENT/],
    [".", /EISDIR/],
    ["link", /ELOOP/],
    ["fifo", /ENXIO/],
  ] as const) {
    const path = join(directory, name);
    t.throws(() => openLogFile(path), {
      message: new RegExp(`^--log-file ${path}: cannot write there: ${reason.source}`),
    });
  }
});
