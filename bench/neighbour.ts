/** What a container's opens wait for while another container on the node does its worst. */
import { type Capabilities, startContainer, staticProgram } from "../test/support/container.js";
import type { FigureName, Figures } from "./figures.js";
import { LoadedContainer } from "./load.js";
import type { Watched } from "./watched.js";

const rounds = 5;
const milliseconds = 2000;

/** The kinds of test/support/storms.c, and what each may do in its container. */
const kinds = [
  ["names", { uid: 1000 }],
  ["threads", { uid: 1000 }],
  ["mounts", { capabilities: "sys_admin" }],
  ["namespaces", { uid: 1000 }],
  ["links", { uid: 1000 }],
  ["pins", { uid: 1000 }],
] as const satisfies readonly (readonly [string, { readonly uid?: number; readonly capabilities?: Capabilities }])[];

/** A container whose guard denies what the storms of storms.c are about. */
async function startAttacker({ daemon }: Watched, kind: string) {
  const programs = { "/bin/actor": staticProgram("storms.c") };
  const container = await startContainer({ programs, volumes: [{ target: "/data" }] });
  try {
    container.writeVolume(0, "s/token", "");
    await container.exec(["chmod", "-R", "777", "/data"]);
    const deny = ["s", "late", ...Array.from({ length: 10 }, (_, index) => `late/${index}`)].map(
      (name) => `/data/${name}`,
    );
    const subject = [{ deny, recursive: true, event: ["open"] }];
    const guard = { name: kind, podName: kind, nodeName: "testnode", cid: [container.id], subject };
    await daemon.createGuard(guard);
    return { container, guard };
  } catch (error) {
    await container.stop();
    throw error;
  }
}

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

  for (let round = 0; round < rounds; ++round) await measure("neighbour_p99_ms_quiet");
  for (const [kind, permissions] of kinds) {
    const attacker = await startAttacker(watched, kind);
    try {
      const storm = await attacker.container.actor(permissions);
      const command = async (...fields: readonly (string | number)[]): Promise<number> => {
        const [errno, count = 0] = await storm.command(...fields);
        if (errno !== 0) throw new Error(`storm of ${kind}: ${fields.join(" ")}: errno ${errno}`);
        return count;
      };
      await command("prepare", kind, "/data");
      for (let round = 0; round < rounds; ++round) {
        // It has begun when the neighbour begins, and goes on when that ends.
        const storming = command("storm", kind, "/data", milliseconds + 700);
        await new Promise((resolve) => setTimeout(resolve, 500));
        await measure(`neighbour_p99_ms_under_${kind}`, `neighbour_p99_ms_unasked_under_${kind}`);
        if ((await storming) === 0) throw new Error(`the storm of ${kind} did nothing`);
      }
      await storm.stop();
    } finally {
      await attacker.container.stop();
      await watched.daemon.destroyGuard(attacker.guard);
    }
  }
  figures.add("neighbour_slips", slips);
  await watched.daemon.destroyGuard(guard);
}
