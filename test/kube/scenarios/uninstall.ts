/** `helm uninstall`: nothing is denied any more, the kernel has nothing of it left; the resources stay, as documented. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { cgroupParent } from "../../support/cleanup.js";
import { DENIED, guardManifest } from "../guards.js";
import { secret } from "../images.js";
import { namespace as janus } from "../janusd.js";
import type { Scenario } from "../scenario.js";

export const uninstall: Scenario = async (t, cluster, janusd) => {
  const namespace = "uninstall";
  await cluster.namespace(namespace);
  cluster.apply(guardManifest("secrets", { app: "web" }, { namespace }));
  cluster.startPod("web", { namespace, labels: { app: "web" } });
  await janusd.guards(namespace, "secrets", 1);
  const read = () => cluster.exec("web", ["cat", secret], { namespace });
  t.match(read(), { status: 1, stderr: DENIED });

  const kept = keptByDaemon();
  const stays = (program: string) => spawnSync("bpftool", ["prog", "show", "id", program]).status === 0;
  t.ok(kept.programs.size > 0 && [...kept.programs].every(stays), `${kept.programs.size} eBPF programs`);
  t.ok(kept.marks > 0, `${kept.marks} marks`);
  janusd.uninstall();
  await janusd.until("its pod is gone", () => cluster.api.kubectl(["get", "pods", `--namespace=${janus}`]) === "");
  t.match(read(), { status: 0, stdout: "s3cret\n" }, "nothing is denied");
  await janusd.until("its programs are gone", () => ![...kept.programs].some(stays));
  t.match(keptByDaemon(), { processes: 0, marks: 0 });
  t.ok(cluster.has("janusguard", "secrets", namespace), "the guard's resource stays");
  const left = ["serviceaccount", "daemonset", "clusterrole", "clusterrolebinding", "priorityclass"];
  for (const kind of left) t.notOk(cluster.has(kind, "janusd", janus), `no ${kind} stays`);
  t.ok(existsSync("/var/lib/janusd"), "the node's state directory stays, as documented");
};

/** What the kernel keeps for the daemon on the node, by its open files: ids of eBPF programs, and marks (proc(5), fdinfo). */
function keptByDaemon(): { processes: number; programs: Set<string>; marks: number } {
  const read = (...path: string[]): string => {
    try {
      return readFileSync(join("/proc", ...path), "utf8");
    } catch {
      return ""; // it has ended, or the file is closed
    }
  };
  const files = (pid: string): string[] => {
    try {
      return readdirSync(join("/proc", pid, "fdinfo")).map((file) => read(pid, "fdinfo", file));
    } catch {
      return [];
    }
  };
  const pids = readdirSync("/proc").filter(
    (pid) => read(pid, "cgroup").includes(`${cgroupParent()}/`) && read(pid, "cmdline").includes("/opt/janusd/"),
  );
  const open = pids.flatMap(files).join("\n");
  return {
    processes: pids.length,
    programs: new Set(Array.from(open.matchAll(/^prog_id:\s*(\d+)/gm), ([, id = ""]) => id)),
    marks: open.match(/^fanotify (ino|mnt_id|sdev)/gm)?.length ?? 0,
  };
}
