/**
 * What this machine lets the daemon do, what is missing, and what would let it
 * do more. Judges; `machine.ts` and the addon's probe look.
 */
import type { GetStatusResponse } from "../gen/janus/v1/inspection_pb.js";
import type { Feature, KeptState, Probe } from "../native.js";
import type { Machine } from "./machine.js";
import { formatTable } from "./table.js";

export interface Finding {
  readonly group: "kernel" | "fanotify" | "ebpf" | "capability" | "limit" | "cgroup" | "tier" | "kept" | "daemon";
  readonly name: string;
  readonly ok: boolean;
  /** The daemon cannot do without. */
  readonly needed: boolean;
  readonly detail: string;
}

export interface Diagnosis {
  readonly findings: readonly Finding[];
  /** What tells of new mounts, as far as this kernel allows without `--hold=syscalls`. */
  readonly holdTier: HoldTier;
  /** A line for each thing that is needed and missing. */
  readonly missing: readonly string[];
  /** A line for each change that lets the daemon do more. */
  readonly next: readonly string[];
}

/** The best first; `syscalls` only if it is asked for. See native/hold/holder.h. */
export type HoldTier = "fentry" | "syscalls" | "scheduler" | "off";

/** Groups that the daemon itself has, all of one user. */
const GROUPS = 7;
const OPEN_FILES = 4096;

/** A running daemon's word of itself, or why there is none. */
export type DaemonAnswer = { readonly status: GetStatusResponse } | { readonly error: string };

export function diagnose(probe: Probe, machine: Machine, kept: readonly KeptState[], daemon: DaemonAnswer): Diagnosis {
  const { fentry, bpf_send_signal_task: stops } = probe.features;
  const holdTier = fentry.works ? "fentry" : stops.works ? "scheduler" : "off";
  return {
    findings: [
      ...kernelFindings(probe, machine),
      ...Object.entries(probe.features).map(([name, { works, needed, reason }]) => {
        const group = name.startsWith("fanotify_") ? "fanotify" : "ebpf";
        return { group, name: name.replace("fanotify_", ""), ok: works, needed, detail: reason } as const;
      }),
      ...probe.capabilities.map(
        ({ name, held, needed, for: what }) => ({ group: "capability", name, ok: held, needed, detail: what }) as const,
      ),
      info("capability", "effective", machine.capabilities),
      ...limitFindings(machine),
      info(
        "cgroup",
        machine.cgroups.layout,
        `containers in v2: ${machine.cgroups.inV2}, in v1: ${machine.cgroups.inV1}`,
      ),
      info("tier", "hold", holdTier),
      ...kernelTierFindings(probe, machine),
      ...kept.map(keptFinding),
      ...daemonFindings(daemon),
    ],
    holdTier,
    missing: [...probe.missing, ...missingOf(machine), ...failuresOf(daemon)],
    next: [...nextOf(probe, machine), ...leftOf(kept, daemon)],
  };
}

function info(group: Finding["group"], name: string, detail: string): Finding {
  return { group, name, ok: true, needed: false, detail };
}

function kernelFindings(probe: Probe, machine: Machine): Finding[] {
  const { securityModules, lockdown, renameLock } = machine;
  return [
    info("kernel", "release", `${probe.kernel} ${probe.architecture}`),
    { group: "kernel", name: "BTF", ok: probe.btf, needed: true, detail: "" },
    { group: "kernel", name: "BTF of overlayfs", ok: probe.overlayBtf, needed: false, detail: "" },
    { group: "kernel", name: "lockdown", ok: !isLockedDown(machine), needed: true, detail: lockdown ?? "not known" },
    { group: "kernel", name: "address of rename_lock", ok: renameLock, needed: false, detail: "" },
    {
      group: "kernel",
      name: "bpf among the security modules",
      ok: securityModules?.includes("bpf") ?? false,
      needed: false,
      detail: securityModules?.join(",") ?? "not known: securityfs is not mounted",
    },
  ];
}

/** Then eBPF may not read the kernel's memory. */
function isLockedDown({ lockdown }: Machine): boolean {
  return lockdown === "confidentiality";
}

function limitFindings({ maxUserGroups, maxUserMarks, openFiles, lockedMemory }: Machine): Finding[] {
  return [
    {
      group: "limit",
      name: "fs.fanotify.max_user_groups",
      ok: maxUserGroups >= GROUPS,
      needed: true,
      detail: `${maxUserGroups}; the daemon has ${GROUPS}`,
    },
    info("limit", "fs.fanotify.max_user_marks", `${maxUserMarks}; does not bind the daemon`),
    { group: "limit", name: "open files", ok: openFiles >= OPEN_FILES, needed: false, detail: String(openFiles) },
    info("limit", "locked memory", `${lockedMemory}; does not bind eBPF since Linux 5.11`),
  ];
}

function kernelTierFindings({ features: { fentry } }: Probe, { bpfFileSystem }: Machine): Finding[] {
  const keep = bpfFileSystem ? "below /sys/fs/bpf/janusd" : "no bpf file system at /sys/fs/bpf";
  const decides = fentry.works ? "what is certain" : fentry.reason;
  return [
    { group: "tier", name: "kernel decides", ok: fentry.works, needed: false, detail: decides },
    {
      group: "tier",
      name: "keep",
      ok: fentry.works && bpfFileSystem,
      needed: false,
      detail: fentry.works ? keep : fentry.reason,
    },
  ];
}

function keptFinding({ directory, layout, daemon }: KeptState): Finding {
  if (daemon === undefined) {
    const detail = `of another version: layout ${layout === 0 ? "not known" : layout}`;
    return { group: "kept", name: directory, ok: false, needed: false, detail };
  }
  const { pid, version, generation, there, denied, unjudged, refused } = daemon;
  const of = `janusd ${version}, layout ${layout}, policy generation ${generation}`;
  const beat = `last heartbeat ${seconds(daemon.beatMs)} ago`;
  const since = `gone for ${seconds(daemon.awayMs)}: ${denied} opens denied, ${unjudged} not judged, ${refused} refused`;
  const detail = there ? `${of}, ${beat}` : `${of}, ${beat}; ${since}`;
  return { group: "kept", name: `pid ${pid}`, ok: there, needed: false, detail };
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** Of daemons that have gone; a daemon that runs takes over by itself. */
function leftOf(kept: readonly KeptState[], answer: DaemonAnswer): string[] {
  const left = kept.filter(({ daemon }) => daemon?.there !== true);
  if (left.length === 0 || left.length < kept.length || !("error" in answer)) return [];
  return [
    "what a daemon has left in the kernel still denies: start one, which takes over, or end it with janusctl release",
  ];
}

function daemonFindings(daemon: DaemonAnswer): Finding[] {
  if ("error" in daemon) return [{ group: "daemon", name: "answers", ok: false, needed: false, detail: daemon.error }];
  const { version, pid, holdTier, guards, checks } = daemon.status;
  return [
    info("daemon", "answers", `janusd ${version}, pid ${pid}, hold tier ${holdTier}, ${guards} guards`),
    ...checks.map(({ name, ok, detail }) => ({ group: "daemon", name, ok, needed: true, detail }) as const),
  ];
}

function missingOf(machine: Machine): string[] {
  const missing: string[] = [];
  if (isLockedDown(machine))
    missing.push(
      "lockdown is in confidentiality mode, which keeps eBPF from the kernel's memory: boot with lockdown=integrity",
    );
  if (machine.maxUserGroups < GROUPS)
    missing.push(`fs.fanotify.max_user_groups is ${machine.maxUserGroups}: sysctl -w fs.fanotify.max_user_groups=128`);
  return missing;
}

function failuresOf(daemon: DaemonAnswer): string[] {
  if ("error" in daemon) return [];
  return daemon.status.checks.filter(({ ok }) => !ok).map(({ name, detail }) => `the daemon's ${name}: ${detail}`);
}

/** What each is good for, and how to have it. */
const ADVICE: Partial<Readonly<Record<Feature, string>>> = {
  fanotify_directory_ignore_marks:
    "Linux 6.0 for directory ignore marks: without, every open on a guarded container's file system asks",
  fanotify_evictable_marks: "Linux 5.19 for evictable marks: without, nothing is learned to be outside of guards",
  fanotify_overlay_file_handles:
    "Linux 6.6 for file handles on overlayfs: without, names there are watched by inotify, within its limits",
  fanotify_audit: "CONFIG_AUDIT (and CAP_AUDIT_WRITE) for subjects with audit: without, they are refused",
  fanotify_pidfd: "Linux 5.15 for pidfds in events: without, a number that is used again is told apart by time alone",
};

function nextHoldTiers({
  fentry,
  syscall_tracepoints: tracepoints,
  bpf_send_signal_task: stops,
}: Probe["features"]): string[] {
  if (fentry.works) return [];
  const best = `hold tier fentry, without any window: a kernel that takes fmod_ret programs (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS); this one says: ${fentry.reason}`;
  if (!stops.works) return [best, "hold tiers scheduler and syscalls: Linux 6.13 (bpf_send_signal_task)"];
  const mount = tracepoints.works ? "" : "mount -t tracefs tracefs /sys/kernel/tracing, and ";
  return [best, `hold tier syscalls: ${mount}start with --hold=syscalls (slows every system call of the node)`];
}

function nextOf({ features, capabilities, overlayBtf, missing }: Probe, machine: Machine): string[] {
  // Without privilege everything is refused, and says nothing about the kernel.
  if (missing.length > 0) return [];
  const next = Object.entries(ADVICE).flatMap(([feature, line]) => (features[feature as Feature].works ? [] : [line]));
  for (const { name, held, for: what } of capabilities) if (!held) next.push(`${name} for ${what}`);
  next.push(...nextHoldTiers(features));
  if (features.fentry.works && !machine.bpfFileSystem)
    next.push(
      "mount -t bpf bpf /sys/fs/bpf (in a pod: mount the node's): without, what the kernel denies ends with the daemon",
    );
  if (!overlayBtf)
    next.push(
      "BTF of the overlay module (CONFIG_DEBUG_INFO_BTF_MODULES): without, no directory of an image is ignored, and other names of a guarded file in it are not known",
    );
  if (!machine.renameLock)
    next.push(
      "the address of rename_lock (CONFIG_KALLSYMS_ALL, kernel.kptr_restrict below 2): without, a path that is read during a rename isn't read again",
    );
  if (machine.openFiles < OPEN_FILES)
    next.push(`a limit of ${OPEN_FILES} open files or more: each guarded volume keeps one open`);
  return next;
}

/** For people; ends with a line for each thing that is missing, or would be better. */
export function formatDiagnosis({ findings, missing, next }: Diagnosis): string {
  const table = formatTable(
    {
      GROUP: ({ group }) => group,
      NAME: ({ name }) => name,
      RESULT: ({ ok, needed }) => (ok ? "ok" : needed ? "MISSING" : "no"),
      DETAIL: ({ detail }) => detail,
    },
    findings,
  );
  const lines = [...missing.map((line) => `missing: ${line}`), ...next.map((line) => `next: ${line}`)];
  return lines.length === 0 ? table : `${table}\n${lines.map((line) => `${line}\n`).join("")}`;
}
