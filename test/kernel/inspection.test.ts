/** `janusctl containers` and `janusctl processes` on real containers. */
import { readFileSync } from "node:fs";
import t from "tap";
import { cgroupParent } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { eventually, startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";
import { janusctl, jsonOf } from "../support/janusctl.js";

const daemon = await startDaemon({}, t);
const address = ["--address", daemon.grpcAddress];

t.test("containers: the guarded ones; with --all those without a guard, too", async (t) => {
  const guarded = await startContainer({ files: { "/etc/secret": "" } }, t);
  const free = await startContainer({}, t);
  await daemon.createGuard(guardOn(guarded, { deny: ["/etc/secret"] }, { name: "one", namespace: "web" }));
  await daemon.createGuard(guardOn(guarded, { deny: ["/etc/passwd"] }, { name: "two" }));

  const listed = await jsonOf("containers", ...address);
  t.match(listed, [
    {
      id: guarded.id,
      cgroupPath: `${cgroupParent()}/${guarded.id}`,
      cgroupVersion: 2,
      firstPid: guarded.initPid,
      processCount: 1,
      started: /^\d{4}-\d\d-\d\dT.*Z$/,
      guards: [
        { name: "one", namespace: "web", podName: "pod" },
        { name: "two", namespace: "", podName: "pod" },
      ],
    },
  ]);
  t.equal(listed.length, 1);
  const all = await jsonOf("containers", "--all", ...address);
  t.match(
    all.find(({ id }) => id === free.id),
    { firstPid: free.initPid, processCount: 1, cgroupPath: `${cgroupParent()}/${free.id}`, guards: [] },
  );
  t.match(
    all.find(({ id }) => id === guarded.id),
    listed[0],
  );
  const table = await janusctl(["containers", ...address]);
  t.match(table.out, /^CONTAINER +FIRST PID +PROCESSES +STARTED +GUARDS +CGROUP\n/);
  t.match(table.out, new RegExp(`\n${guarded.id.slice(0, 12)} .* web/one,two +v2:/.*${guarded.id}\n$`));
  await daemon.destroyGuard({ podName: "pod" });
  t.same(await jsonOf("containers", ...address), []);
});

t.test("processes: what each is, and who may pass autoAllowOwner; guarded or not", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  await container.actor({ uid: 1000 });
  const of = (id: string) => jsonOf("processes", id, ...address);
  const before = await of(container.id);
  t.match(before[0], {
    pid: container.initPid,
    comm: "sleep",
    executable: /\/bin\/busybox$/,
    uid: 0,
    role: "PROCESS_ROLE_INIT",
    started: /Z$/,
    mountNamespace: /^\d+$/,
  });
  const pids = readFileSync(`/sys/fs/cgroup/unified${cgroupParent()}/${container.id}/cgroup.procs`, "utf8");
  t.same(before.map(({ pid }) => String(pid)).sort(), pids.trim().split("\n").sort());
  t.match(before[1], { comm: "actor", executable: "/bin/actor", uid: 1000, role: "PROCESS_ROLE_OTHER" });
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], autoAllowOwner: true }));
  t.same(await of(container.id), before, "the same, tracked");
  t.same(await of(container.id.slice(0, 12)), before);
  t.same(await of(`containerd://${container.id}`), before);
  const table = await janusctl(["processes", container.id, ...address]);
  t.match(table.out, /^PID +PPID +ROLE +UID +STARTED +MOUNT NS +COMM +EXECUTABLE\n/);
  t.match(table.out, new RegExp(`\n${container.initPid} +\\d+ +init +0 `));
  await daemon.destroyGuard({ podName: "pod" });
});

t.test("children of the first process, which are its own and stay so", async (t) => {
  const init = ["sh", "-c", "(sleep 1001 & sleep 1002); true"];
  const container = await startContainer({ init, files: { "/etc/secret": "" } }, t);
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], autoAllowOwner: true }));
  await eventually("each role is there", async () => {
    const [first, ...rest] = (await jsonOf("processes", container.id, ...address)).map(({ role }) => role);
    return first === "PROCESS_ROLE_INIT" && rest.includes("PROCESS_ROLE_CHILD") && rest.includes("PROCESS_ROLE_OTHER");
  });
  await daemon.destroyGuard({ podName: "pod" });
});

t.test("a container that does not run: one line, which says what was searched", async (t) => {
  const { status, out, err } = await janusctl(["processes", "f".repeat(64), ...address]);
  t.equal(status, 1);
  t.equal(out, "");
  t.match(err, /^janusctl: NOT_FOUND: .*searched \d+ processes in \d+ cgroups.*\n$/);
  t.match(await janusctl(["processes", "a*", ...address]), { status: 1, err: /container: not a container id/ });
  t.match(await janusctl(["processes"]), { status: 2 });
});
