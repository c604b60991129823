/** What a container's opens, and its guards, wait for while another container on the node does its worst. */
import { Attacker, stormKinds } from "../test/support/storms.js";
import { type FigureName, type Figures, median } from "./figures.js";
import { LoadedContainer } from "./load.js";
import type { Watched } from "./watched.js";

const rounds = 5;
const milliseconds = 2000;

/** The figure is that of a denied file. What an open waits that nobody is asked about is the storm's, not the daemon's. */
export async function neighbour(figures: Figures, watched: Watched): Promise<void> {
  await using neighbour = await LoadedContainer.start({ files: { "/secrets/token": "", "/open/file": "" } });
  const subject = [{ deny: ["/secrets"], recursive: true, event: ["open"] }];
  const guard = {
    name: "neighbour",
    podName: "neighbour",
    nodeName: "testnode",
    cid: [neighbour.container.id],
    subject,
  };
  await watched.daemon.createGuard(guard);

  let slips = 0;
  const measure = async (asked: FigureName, unasked?: FigureName): Promise<void> => {
    const [denied, opened] = await Promise.all([
      neighbour.load.latency("/secrets/token", milliseconds),
      neighbour.owner.latency("/open/file", milliseconds),
    ]);
    if (opened.denied !== 0) throw new Error(`${opened.denied} opens were denied that nobody guards`);
    slips += denied.opened;
    figures.add(asked, denied.p99 / 1e6);
    if (unasked !== undefined) figures.add(unasked, opened.p99 / 1e6);
  };

  /** CreateGuard of one more guard, which goes again each time. */
  const create = async (name: FigureName): Promise<void> => {
    const one = { ...guard, name: "one-more" };
    const until = performance.now() + milliseconds;
    const taken: number[] = [];
    while (performance.now() < until) {
      const from = performance.now();
      await watched.daemon.createGuard(one);
      taken.push(performance.now() - from);
      await watched.daemon.destroyGuard(one);
    }
    figures.add(name, median(taken));
  };

  for (let round = 0; round < rounds; ++round) {
    await measure("neighbour_p99_ms_quiet");
    await create("neighbour_create_p50_ms_quiet");
  }
  for (const [kind] of stormKinds) {
    await using attacker = await Attacker.start(kind);
    await watched.daemon.createGuard(attacker.guard);
    await attacker.prepare();
    for (let round = 0; round < rounds; ++round) {
      // It has begun when the neighbour begins, and goes on when that ends.
      const storm = attacker.storm(2 * milliseconds + 700);
      await new Promise((resolve) => setTimeout(resolve, 500));
      await measure(`neighbour_p99_ms_under_${kind}`, `neighbour_p99_ms_unasked_under_${kind}`);
      await create(`neighbour_create_p50_ms_under_${kind}`);
      await storm;
    }
    await watched.daemon.destroyGuard(attacker.guard);
  }
  figures.add("neighbour_slips", slips);
  await watched.daemon.destroyGuard(guard);
}
