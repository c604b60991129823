import { readFileSync } from "node:fs";
import t from "tap";
import { startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";

const daemon = await startDaemon({}, t);

t.test("the eBPF programs say nothing of processes that are in no guarded container", async (t) => {
  const guarded = await startContainer({ files: { "/etc/secret": "" } }, t);
  const other = await startContainer({}, t);
  await daemon.createGuard(guardOn(guarded, { deny: ["/etc/secret"] }));
  const [inside, outside] = [await guarded.actor(), await other.actor()];
  const records = () => daemon.metric("janusd_ebpf_records_total");
  const forks = async (actor: typeof inside) => {
    for (let count = 0; count < 20; ++count) await actor.exec("/bin/true");
  };
  // `runc exec` into the guarded container ends behind the call: its own processes were the container's.
  let before = await records();
  await eventually("the guarded container is quiet", async () => {
    const last = before;
    before = await records();
    return before === last;
  });

  await forks(outside);
  t.equal(await records(), before);
  await forks(inside);
  t.ok((await records()) >= before + 60, "a fork, an exec and an exit each");
  t.ok((await daemon.metric("janusd_ebpf_ring_peak_bytes")) > 0);
});

t.test("eBPF maps are as large as the machine, and say what they take", async (t) => {
  const limit = (name: string) => Number(readFileSync(`/proc/sys/kernel/${name}`, "utf8"));
  const processes = Math.min(limit("pid_max"), limit("threads-max"), 2 ** 18);
  t.equal(await daemon.metric("janusd_ebpf_map_max_entries", { map: "tasks" }), Math.max(processes, 4096));
  for (const map of ["tasks", "cgroups", "identities", "lower_identities", "records"]) {
    t.ok((await daemon.metric("janusd_ebpf_map_bytes", { map })) > 0, map);
    t.equal(await daemon.metric("janusd_ebpf_map_full_total", { map }), 0, map);
  }
});
