/**
 * Cgroup trees as runtimes make them on other nodes, with processes in them:
 * which of them are the container's. Runtimes that can be started are in
 * runtimes.test.ts.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import t, { type Test } from "tap";
import { cgroupParent, killAtExit, workspaceDirectory } from "../support/cleanup.js";
import { eventually } from "../support/daemon.js";
import { startEngine } from "../support/engine.js";

const engine = startEngine(t);
const root = mkdtempSync(join(workspaceDirectory(), "root-"));
copyFileSync("/bin/busybox", join(root, "busybox"));

/** A process in the root directory of a container, or in the node's. */
async function start(where: "container" | "node"): Promise<number> {
  const [command, args] = where === "container" ? ["chroot", [root, "/busybox"]] : ["/bin/busybox", []];
  const child = spawn(command, [...args, "sh", "-c", "echo ready; read forever"], { stdio: "pipe" });
  const { pid } = child;
  if (pid === undefined) throw new Error(`cannot start ${command}`);
  const forget = killAtExit(pid);
  t.teardown(() => {
    child.kill("SIGKILL");
    forget();
  });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return pid;
}

// In the order of their start: of processes that share a pid namespace the oldest is the first.
const [first, nested, sandbox, monitor] = [
  await start("container"),
  await start("container"),
  await start("container"),
  await start("node"),
];

/** Mount points by hierarchy, as far as they are mounted. */
function mountPoint(type: "cgroup" | "cgroup2", option = ""): string | undefined {
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    const [mount = "", superblock = ""] = line.split(" - ");
    const [fileSystem, , options = ""] = superblock.split(" ");
    if (fileSystem === type && (option === "" || options.split(",").includes(option))) return mount.split(" ")[4];
  }
  return undefined;
}
const v2 = mountPoint("cgroup2");
const [pids, memory, named] = ["pids", "memory", "name=systemd"].map((option) => mountPoint("cgroup", option));
const all = [v2, pids, memory, named];

let trees = 0;

/** Puts processes into the cgroups given for each hierarchy, and into the root of the others. */
function place(placed: readonly (readonly [pid: number, paths: ReadonlyMap<string | undefined, string>])[]): void {
  const tree = `${cgroupParent()}/${++trees}`;
  for (const [pid, paths] of placed) {
    for (const hierarchy of all) {
      if (hierarchy === undefined) continue;
      const path = paths.get(hierarchy);
      const directory = path === undefined ? hierarchy : join(hierarchy, tree, path);
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, "cgroup.procs"), String(pid));
    }
  }
}

/** The same path in several hierarchies. */
const inEach = (hierarchies: readonly (string | undefined)[], path: string): Map<string | undefined, string> =>
  new Map(hierarchies.map((hierarchy) => [hierarchy, path]));

const newId = (): string => randomBytes(32).toString("hex");

interface Layout {
  readonly container: (id: string) => string;
  /** Default: none; the runtime's own process is in the pod's cgroup. */
  readonly monitor?: (id: string) => string;
}

const slice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice";
const layouts: Readonly<Record<string, Layout>> = {
  "Docker, cgroupfs": { container: (id) => `/docker/${id}` },
  "Docker, systemd": { container: (id) => `/system.slice/docker-${id}.scope` },
  "containerd's CRI, cgroupfs": { container: (id) => `/kubepods/burstable/pod1/${id}` },
  "containerd's CRI, systemd": { container: (id) => `${slice}/cri-containerd-${id}.scope` },
  "containerd's CRI, systemd's name as a path": {
    container: (id) => `/system.slice/containerd.service/kubepods-burstable-pod1.slice:cri-containerd:${id}`,
  },
  "CRI-O, cgroupfs": {
    container: (id) => `/kubepods/burstable/pod1/crio-${id}`,
    monitor: (id) => `/kubepods/burstable/pod1/crio-conmon-${id}`,
  },
  "CRI-O, systemd": {
    container: (id) => `${slice}/crio-${id}.scope`,
    monitor: (id) => `${slice}/crio-conmon-${id}.scope`,
  },
  "podman, systemd": {
    container: (id) => `/machine.slice/libpod-${id}.scope`,
    monitor: (id) => `/machine.slice/libpod-conmon-${id}.scope`,
  },
};

const v1 = [pids, memory, named];
const nodes: Readonly<Record<string, readonly (string | undefined)[]>> = {
  "cgroup v2": [v2],
  hybrid: all,
  "cgroup v1": v1,
  "cgroup v1 without the pids controller": [memory, named],
  "only systemd's named hierarchy": [named],
};

function isFound(t: Test, id: string, expected: { readonly pids: readonly number[]; readonly path: string }): void {
  for (const asked of [id, id.slice(0, 12)]) {
    const { cgroupPath, initPid, pids: found, id: full } = engine.findContainer(asked);
    t.same(
      { full, initPid, found },
      { full: id, initPid: expected.pids[0], found: [...expected.pids].sort((x, y) => x - y) },
    );
    t.ok(cgroupPath.endsWith(expected.path), cgroupPath);
  }
}

for (const [node, hierarchies] of Object.entries(nodes)) {
  const missing = hierarchies.includes(undefined) && "not mounted here";
  t.test(node, { skip: missing }, async (t) => {
    for (const [layout, { container, monitor: monitorPath }] of Object.entries(layouts)) {
      t.comment(layout);
      const [id, pause] = [newId(), newId()];
      const path = container(id);
      place([
        [first, inEach(hierarchies, path)],
        [nested, inEach(hierarchies, `${path}/container`)],
        [sandbox, inEach(hierarchies, container(pause))],
        [monitor, inEach(hierarchies, monitorPath?.(id) ?? dirname(path))],
      ]);
      isFound(t, id, { pids: [first, nested], path });
      isFound(t, pause, { pids: [sandbox], path: container(pause) });
    }
  });
}

t.test("a hybrid node whose runtime uses v1: v2 has its service", { skip: !v2 || !pids }, async (t) => {
  const id = newId();
  const service = [[v2, "/system.slice/docker.service"]] as const;
  place([
    [first, new Map([...service, ...inEach(v1, `/docker/${id}`)])],
    [nested, new Map([...service, ...inEach(v1, `/docker/${id}`)])],
    [sandbox, new Map(service)],
    [monitor, new Map([...service, ...inEach(v1, "/system.slice/docker.service")])],
  ]);
  isFound(t, id, { pids: [first, nested], path: `/docker/${id}` });
});

t.test("processes in v1's cgroup only, beside others in v2's: one container", { skip: !v2 || !pids }, async (t) => {
  const id = newId();
  place([
    [first, inEach(all, `/docker/${id}`)],
    [nested, inEach(v1, `/docker/${id}`)],
    [sandbox, new Map()],
  ]);
  isFound(t, id, { pids: [first, nested], path: `/docker/${id}` });
});

t.test("a container in a container: the outer one is both", async (t) => {
  const [outer, inner] = [newId(), newId()];
  place([
    [first, inEach(all, `/docker/${outer}/init`)],
    [nested, inEach(all, `/docker/${outer}/docker/${inner}`)],
    [sandbox, inEach(all, `/docker/${outer}/docker/${inner}/container`)],
    [monitor, inEach(all, `/docker/${outer}`)],
  ]);
  isFound(t, outer, { pids: [first, nested, sandbox, monitor], path: `/docker/${outer}` });
  isFound(t, inner, { pids: [nested, sandbox], path: `/docker/${inner}` });
});

t.test("who is pid 1 of a namespace that it made itself is not the first process for that", async (t) => {
  // In a pod that shares its pid namespace an orphan is adopted from outside the container, as this one is.
  const id = newId();
  const unshare = spawn("unshare", ["--pid", "--fork", "--kill-child", "chroot", root, "/busybox", "sleep", "1000"]);
  t.teardown(() => unshare.kill("SIGKILL"));
  const children = () => readFileSync(`/proc/${unshare.pid}/task/${unshare.pid}/children`, "utf8").trim();
  await eventually("it is in the container's root", () => {
    const pid = children();
    return pid !== "" && readFileSync(`/proc/${pid}/comm`, "utf8") === "busybox\n";
  });
  const late = Number(children());
  t.match(readFileSync(`/proc/${late}/status`, "utf8"), /^NSpid:.*\t1$/m);
  place([
    [first, inEach(all, `/docker/${id}`)],
    [late, inEach(all, `/docker/${id}`)],
    [nested, new Map()],
    [sandbox, new Map()],
    [monitor, new Map()],
  ]);
  isFound(t, id, { pids: [first, late], path: `/docker/${id}` });
});

t.test("nested deeper than anybody looks", async (t) => {
  const id = newId();
  place([
    [first, inEach(all, `/docker/${id}`)],
    [nested, inEach(all, `/docker/${id}${"/deeper".repeat(40)}`)],
    [sandbox, new Map()],
    [monitor, new Map()],
  ]);
  isFound(t, id, { pids: [first, nested], path: `/docker/${id}` });
});

t.test("an id that fits several is refused with all of them; so is a name that is used twice", async (t) => {
  const start = newId().slice(0, 12);
  const [one, two] = [start.padEnd(64, "1"), start.padEnd(64, "2")];
  place([
    [first, inEach(all, `/docker/${one}`)],
    [nested, inEach(all, `/docker/${two}`)],
    [sandbox, inEach(all, `/default/web-${process.pid}`)],
  ]);
  t.throws(() => engine.findContainer(start), { code: "AMBIGUOUS", message: new RegExp(`${one}.*${two}`) });
  isFoundExactly(t, one, first);
  isFoundExactly(t, two, nested);
  isFoundExactly(t, `web-${process.pid}`, sandbox);
  place([[first, inEach(all, `/other/web-${process.pid}`)]]);
  t.throws(() => engine.findContainer(`web-${process.pid}`), { code: "AMBIGUOUS", message: /\/default\/.*\/other\// });
});

function isFoundExactly(t: Test, id: string, pid: number): void {
  const { id: full, initPid, pids: found } = engine.findContainer(id);
  t.same({ full, initPid, found }, { full: id, initPid: pid, found: [pid] });
}

t.test("what only is in the node's root directory is no container yet", async (t) => {
  const id = newId();
  place([[monitor, inEach(all, `/docker/${id}`)]]);
  t.throws(() => engine.findContainer(id), { code: "NOT_FOUND", message: /still setting it up/ });
  t.same(engine.missingContainers([id]), [id]);
  place([[first, inEach(all, `/docker/${id}`)]]);
  t.throws(() => engine.findContainer(newId()), {
    code: "NOT_FOUND",
    message: /searched \d+ processes in \d+ cgroups/,
  });
});
