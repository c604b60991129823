/** What an answered open takes on a node that has no processor to spare. */
import { spawn } from "node:child_process";
import { cpus } from "node:os";
import { killAtExit } from "../test/support/cleanup.js";
import { startDaemon } from "../test/support/daemon.js";
import type { Figures } from "./figures.js";
import { LoadedContainer } from "./load.js";

/** Keeps so many processors busy until it is disposed of. */
export function keepBusy(processors = cpus().length): Disposable {
  const loops = Array.from({ length: processors }, () =>
    spawn("sh", ["-c", "while :; do :; done"], { stdio: "ignore" }),
  );
  const forget = loops.map(({ pid }) => killAtExit(pid ?? 0));
  return {
    [Symbol.dispose]: () => {
      for (const loop of loops) loop.kill("SIGKILL");
      for (const each of forget) each();
    },
  };
}

/** With a daemon that may answer before others get the processor, and with one that may not. Both guard a container. */
export async function busy(figures: Figures): Promise<void> {
  await using urgent = await LoadedContainer.start({ files: { "/guarded/file": "" } });
  await using ordinary = await LoadedContainer.start({ files: { "/guarded/file": "" } });
  await using first = await startDaemon();
  await using second = await startDaemon({ enter: ["setpriv", "--bounding-set=-sys_nice"] });
  const pairs = [
    ["busy_answered_urgent_us", first, urgent],
    ["busy_answered_ordinary_us", second, ordinary],
  ] as const;
  for (const [, daemon, { container }] of pairs) {
    const subject = [{ deny: ["/guarded"], event: ["open"] }];
    await daemon.createGuard({ name: "busy", podName: "bench", nodeName: "testnode", cid: [container.id], subject });
  }
  using _ = keepBusy();
  for (let round = 0; round < 9; ++round)
    for (const [name, , { load }] of pairs)
      figures.add(name, (await load.open("/guarded/file", 1, 500, "denied")) / 1000);
}
