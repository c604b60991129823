import { readdirSync, readFileSync } from "node:fs";
import t from "tap";
import { hasCode } from "../../src/errors.js";
import { startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

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

t.test("ignore marks are the kernel's to take back, and no more than --ignore-limit", async (t) => {
  const limit = 8;
  const daemon = await startDaemon({ flags: [`--ignore-limit=${limit}`] }, t);
  const directories = Array.from({ length: 3 * limit }, (_, index) => `/image/${index}`);
  const files = Object.fromEntries(directories.map((directory) => [`${directory}/file`, ""]));
  const container = await startContainer({ files: { ...files, "/etc/secret": "" } }, t);
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  const actor = await container.actor();
  let most = 0;
  for (const directory of directories) {
    t.equal(await actor.open(`${directory}/file`), 0);
    most = Math.max(most, ignoreMarks(daemon.pid).length);
  }
  t.ok(most >= limit, `${most} at most`);
  // The guarded file, and what the loader of the actor opened, may be among them.
  t.ok(most <= limit + 1, `${most} at most`);
  t.ok(ignoreMarks(daemon.pid).every((flags) => (flags & FAN_MARK_EVICTABLE) !== 0));
  t.equal(await daemon.metric("janusd_marks", { kind: "ignore" }), ignoreMarks(daemon.pid).length);
  t.equal(await actor.open("/etc/secret"), EPERM);
  await daemon.stop();
});

const FAN_MARK_EVICTABLE = 0x200;

/** Flags of each ignore mark that the kernel holds for a process: proc(5), fdinfo. */
function ignoreMarks(pid: number): number[] {
  const directory = `/proc/${pid}/fdinfo`;
  const text = readdirSync(directory).map((fd) => {
    try {
      return readFileSync(`${directory}/${fd}`, "utf8");
    } catch (error) {
      // Closed since the directory was listed: the descriptor of an event that is answered by now.
      if (hasCode(error, "ENOENT")) return "";
      throw error;
    }
  });
  const marks = text.join("").matchAll(/^fanotify ino:.* mflags:([0-9a-f]+) mask:0 ignored_mask:(?!0 )[0-9a-f]+/gm);
  return [...marks].map(([, flags]) => Number.parseInt(flags ?? "", 16));
}
