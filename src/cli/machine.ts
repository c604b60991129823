/**
 * What the node's own files say of it. Reads; tries nothing (the addon's probe
 * does), and needs no privilege.
 */
import { readdirSync, readFileSync, statfsSync } from "node:fs";

/** From linux/magic.h. */
const BPF_FS_MAGIC = 0xcafe4a11;

export interface Machine {
  /** Security modules that run; undefined: securityfs is not mounted. */
  readonly securityModules: readonly string[] | undefined;
  /** `none`, `integrity` or `confidentiality`; undefined: not known, or no such module. */
  readonly lockdown: string | undefined;
  /** The address of rename_lock can be had. */
  readonly renameLock: boolean;
  /** Effective capabilities of this process, in hexadecimal as in /proc/self/status. */
  readonly capabilities: string;
  readonly maxUserGroups: number;
  readonly maxUserMarks: number;
  /** Soft limits of this process; Infinity: none. */
  readonly openFiles: number;
  readonly lockedMemory: number;
  /** A file system for eBPF objects is mounted where they are pinned. */
  readonly bpfFileSystem: boolean;
  readonly cgroups: Cgroups;
}

export interface Cgroups {
  readonly layout: "v2" | "hybrid" | "v1";
  /** Running containers that show in v2, and in a v1 hierarchy, by ids in cgroup names. */
  readonly inV2: number;
  readonly inV1: number;
}

export function lookAtMachine(): Machine {
  const limits = read("/proc/self/limits") ?? "";
  return {
    securityModules: read("/sys/kernel/security/lsm")?.trim().split(","),
    lockdown: /\[(\w+)\]/.exec(read("/sys/kernel/security/lockdown") ?? "")?.[1],
    renameLock: /^(?!0+ )[0-9a-f]+ \w rename_lock$/m.test(read("/proc/kallsyms") ?? ""),
    capabilities: /^CapEff:\s*([0-9a-f]+)$/m.exec(read("/proc/self/status") ?? "")?.[1] ?? "0",
    maxUserGroups: Number(read("/proc/sys/fs/fanotify/max_user_groups") ?? 0),
    maxUserMarks: Number(read("/proc/sys/fs/fanotify/max_user_marks") ?? 0),
    openFiles: softLimit(limits, "Max open files"),
    lockedMemory: softLimit(limits, "Max locked memory"),
    bpfFileSystem: isBpfFileSystem(),
    cgroups: lookAtCgroups(),
  };
}

function isBpfFileSystem(): boolean {
  try {
    return statfsSync("/sys/fs/bpf").type === BPF_FS_MAGIC;
  } catch {
    return false;
  }
}

function lookAtCgroups(): Cgroups {
  const hierarchies = new Set<"v1" | "v2">();
  const containers = { v1: new Set<string>(), v2: new Set<string>() };
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    for (const line of (read(`/proc/${pid}/cgroup`) ?? "").split("\n").filter((line) => line !== "")) {
      const version = line.startsWith("0::") ? "v2" : "v1";
      hierarchies.add(version);
      for (const [id] of line.matchAll(/[0-9a-f]{64}/g)) containers[version].add(id);
    }
  }
  const layout = hierarchies.size === 2 ? "hybrid" : hierarchies.has("v1") ? "v1" : "v2";
  return { layout, inV2: containers.v2.size, inV1: containers.v1.size };
}

function softLimit(limits: string, name: string): number {
  const soft = new RegExp(`^${name} +(\\S+)`, "m").exec(limits)?.[1];
  return soft === undefined || soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft);
}

/** Undefined if it isn't there, or not for us. */
function read(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}
