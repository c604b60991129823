/** Logs to stdout until something is dropped, and says on stderr what became of it. */
import { readlinkSync, writeSync } from "node:fs";
import { openLogSink } from "../../src/sink/log.js";
import { NO_DENIERS } from "../../src/subject.js";
import { subjectOf, viewOf } from "../support/records.js";

const sink = openLogSink({ format: "text", to: 1 });
const view = viewOf({ path: `/${"x".repeat(4000)}` });
while (sink.dropped === 0) {
  for (let i = 0; i < 64; i++) sink.write(view, subjectOf(), NO_DENIERS);
  sink.flush();
  await new Promise((resolve) => setImmediate(resolve));
}
await sink.close();
const drops = ["queue_full", "shutdown", "closed"].map((reason) => `${reason} ${sink.drops[reason]}`).join(", ");
const [kind] = readlinkSync("/proc/self/fd/1").split(":");
writeSync(2, `${drops}, fd 1 is a ${kind}\n`);
process.on("exit", () => writeSync(2, "exit\n"));
