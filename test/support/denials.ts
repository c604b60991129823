/** What a daemon counts as denied, and the daemon after it has taken over. */
import { type Daemon, eventually } from "./daemon.js";

/** So far, of all guards. */
export const denials = (daemon: Daemon) => daemon.metric("janusd_events_total", { response: "deny" });

/** How many were denied since there were `before`, once they are `count` or more. (A busy daemon may have no figures to tell.) */
export async function deniedSince(daemon: Daemon, before: number, count: number): Promise<number> {
  let denied = 0;
  await eventually("all are counted", async () => {
    denied = (await denials(daemon)) - before;
    return denied >= count;
  });
  return denied;
}

/** Waits until the daemon says that it has; fails with all that it has said. */
export async function tookOver(daemon: Daemon): Promise<void> {
  try {
    await eventually("it has taken over", () => /took over/.test(daemon.stderr));
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error}\n${daemon.stderr}`);
  }
}
