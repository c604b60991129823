/** Logs to stdout more than anything takes that isn't read, and says on stderr what became of it. */
import { writeSync } from "node:fs";
import { openLogSink } from "../../src/sink/log.js";
import { subjectOf, viewOf } from "../support/records.js";

const sink = openLogSink({ format: "text", fd: 1 });
const view = viewOf({ path: `/${"x".repeat(4000)}` });
while ((sink.drops["queue_full"] ?? 0) === 0) {
  for (let i = 0; i < 64; i++) sink.write(view, subjectOf());
  sink.flush();
  await new Promise((resolve) => setImmediate(resolve));
}
await sink.close();
writeSync(2, `queue_full ${sink.drops["queue_full"]}, shutdown ${sink.drops["shutdown"]}\n`);
process.on("exit", () => writeSync(2, "exit\n"));
