/** The daemon under measurement: bin/janusd with its event log going to a file, as an operator runs it. */
import { closeSync, fstatSync, openSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { workspaceDirectory } from "../test/support/cleanup.js";
import { type Daemon, startDaemon } from "../test/support/daemon.js";
import { threadTimes, timesSince } from "./process.js";

export class Watched {
  readonly daemon: Daemon;
  readonly #log: number;

  private constructor(daemon: Daemon, log: number) {
    this.daemon = daemon;
    this.#log = log;
  }

  static async start(): Promise<Watched> {
    const log = openSync(join(workspaceDirectory(), "events.log"), "a");
    return new Watched(await startDaemon({ stdout: log }), log);
  }

  /** Waits until the log stands still: nothing of the last run is left to disturb the next, or to be counted. */
  async settle(): Promise<void> {
    for (let size = -1, still = 0; still < 4; await sleep(10)) {
      const now = fstatSync(this.#log).size;
      still = now === size ? still + 1 : 0;
      size = now;
    }
  }

  /** Waits until the daemon rests: nothing that a call began goes on behind it. */
  async rest(): Promise<void> {
    let before = threadTimes(this.daemon.pid);
    for (let resting = 0; resting < 5; ) {
      await sleep(100);
      const { total } = timesSince(this.daemon.pid, before);
      resting = total < 3e6 ? resting + 1 : 0;
      before = threadTimes(this.daemon.pid);
    }
  }

  /** Events whose record reached no sink, or whose line reached no log. */
  async lost(): Promise<number> {
    return (
      (await this.daemon.metric("janusd_events_lost_total")) +
      (await this.daemon.metric("janusd_log_lines_dropped_total"))
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon.stop();
    closeSync(this.#log);
  }
}
