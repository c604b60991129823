/** How long CreateGuard takes, with one guard held and with a thousand. */
import { type Container, startContainer } from "../test/support/container.js";
import type { GuardInit } from "../test/support/daemon.js";
import { type FigureName, type Figures, median } from "./figures.js";
import { residentMegabytes } from "./process.js";
import type { Watched } from "./watched.js";

const containers = 20;
const guardsEach = 50;
const subjectsEach = 5;
/** Guards that come and go while the latency is taken, beyond those held. */
const spare = 60;

const podName = (container: Container) => container.id.slice(0, 12);
const directory = (guard: number, subject: number) => `/t/${guard}/${subject}`;

function guardOf(container: Container, guard: number): GuardInit {
  const subject = Array.from({ length: subjectsEach }, (_, index) => ({
    deny: [directory(guard, index)],
    event: ["open"],
  }));
  return { name: `guard-${guard}`, podName: podName(container), nodeName: "testnode", cid: [container.id], subject };
}

async function measure(figures: Figures, name: FigureName, { daemon }: Watched, container: Container): Promise<void> {
  for (let run = 0; run < 5; ++run) {
    const taken: number[] = [];
    for (let guard = guardsEach; guard < guardsEach + spare; ++guard) {
      const config = guardOf(container, guard);
      const start = performance.now();
      await daemon.createGuard(config);
      taken.push(performance.now() - start);
      await daemon.destroyGuard(config);
    }
    figures.add(name, median(taken));
  }
}

export async function create(figures: Figures, watched: Watched): Promise<void> {
  const { daemon } = watched;
  const files: Record<string, string> = {};
  for (let guard = 0; guard < guardsEach + spare; ++guard)
    for (let subject = 0; subject < subjectsEach; ++subject) files[`${directory(guard, subject)}/file`] = "";

  const held: Container[] = [];
  try {
    for (let index = 0; index < containers; ++index) held.push(await startContainer({ files }));
    const first = held[0];
    if (first === undefined) throw new RangeError("no container");
    await daemon.createGuard(guardOf(first, 0));
    await measure(figures, "create_p50_ms", watched, first);
    for (const container of held)
      for (let guard = 0; guard < guardsEach; ++guard) await daemon.createGuard(guardOf(container, guard));
    await measure(figures, "create_p50_ms_1000_guards", watched, first);
    figures.add("rss_1000_guards_mb", residentMegabytes(daemon.pid));
    for (const container of held) await daemon.destroyGuard({ podName: podName(container), nodeName: "testnode" });
  } finally {
    for (const container of held) await container.stop();
  }
}
