/**
 * The one door to the C++ addon: its types, and the loader.
 *
 * Every call below is made on the JavaScript thread. None of them blocks on a
 * container, and none is on the path of a permission answer.
 */
import { createRequire } from "node:module";

/** Byte offsets of `struct FileEvent` (native/record/file_event.h), and its size. */
export interface NativeLayout {
  readonly sizeof: number;
  readonly [field: string]: number;
}

/** What became of trying one thing. */
export interface Trial {
  readonly works: boolean;
  /** The daemon does not start without. */
  readonly needed: boolean;
  /** The kernel's words; empty if it works. */
  readonly reason: string;
}

/** `kFeatures` of native/ebpf/probe.h, which says what each is. */
export type Feature =
  | "tp_btf"
  | "task_iterator"
  | "syscall_program"
  | "fentry"
  | "lsm"
  | "syscall_tracepoints"
  | "ring_buffer"
  | "bpf_loop"
  | "bpf_send_signal_task"
  | "fanotify_permission_events"
  | "fanotify_directory_ignore_marks"
  | "fanotify_evictable_marks"
  | "fanotify_overlay_file_handles"
  | "fanotify_audit"
  | "fanotify_pidfd";

/** What this machine lets this process do. Found out once, by trying. */
export interface Probe {
  /** As `uname -r`. */
  readonly kernel: string;
  /** As `uname -m`. */
  readonly architecture: string;
  readonly btf: boolean;
  /** Types of overlayfs, built in or of its loaded module. */
  readonly overlayBtf: boolean;
  readonly features: Readonly<Record<Feature, Trial>>;
  /** All that the daemon uses, and what for; without those that are `needed` it does not start. */
  readonly capabilities: readonly {
    readonly name: string;
    readonly for: string;
    readonly needed: boolean;
    readonly held: boolean;
  }[];
  /** One line for each thing that is missing and needed. Empty: the daemon can run. */
  readonly missing: readonly string[];
}

export const HOLD_MODES = ["auto", "syscalls", "scheduler", "off"] as const;
export type HoldMode = (typeof HOLD_MODES)[number];

export interface EngineOptions {
  /** Bytes of the event ring; rounded up to a power of two. */
  readonly ringBytes: number;
  /** Past this an answer is given as allow, and counted as exposure. Milliseconds. */
  readonly deadlineMs: number;
  /** Inodes that the guards of one container pin by identity marks. */
  readonly identityLimit: number;
  /** Learned ignore marks of the whole daemon; at the limit all are forgotten. */
  readonly ignoreLimit: number;
  /**
   * Questions about the entries of a directory that can be renamed, before it
   * is ignored; 0: never. A directory of the image cannot be, and is ignored at
   * once. For a moment after an ignored directory was moved into a guarded
   * place, its files are not asked about.
   */
  readonly ignoreAfter: number;
  /** Whether processes are held while their mounts are marked, and by which programs; see native/hold/holder.h. */
  readonly hold: HoldMode;
  /** Nobody is held for longer. Milliseconds. */
  readonly holdLimitMs: number;
  /** Of the daemon, for whoever looks at what it keeps in the kernel. */
  readonly version: string;
  /** Whether the kernel denies by itself what is certain, where it can; see native/ebpf/decider.h. */
  readonly kernelDecides: boolean;
  /** What it denies then stays denied when this process is gone. */
  readonly keep: boolean;
  /** ... and what becomes then of opens in guarded containers that only the gate could judge. */
  readonly away: AwayMode;
  /** The first program of a pod's container is held for no longer; 0: never. Milliseconds. See `Engine.holdArrivals`. */
  readonly podWaitMs: number;
  /** A process of its own kills the daemon where nobody has answered for so long. Milliseconds; 0: never. */
  readonly stallLimitMs: number;
  /** What that writes then, for the next start; empty: nothing. */
  readonly stallFile: string;
  /** The directory of the cgroup that it moves to; empty: it stays. */
  readonly keeperCgroup: string;
  /** Such ends that this run begins after: counted as exposure. */
  readonly stalls: number;
}

export const AWAY_MODES = ["allow", "deny"] as const;
export type AwayMode = (typeof AWAY_MODES)[number];

/** Bit n is FileEventKind n of native/record/file_event.h. */
export type EventMask = number;

/** What a subject says, whichever container it is on. */
export interface SubjectPolicy {
  /** Absolute paths as the container sees them, normalised (no `.`, `..`, `//`, trailing `/`). */
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  readonly watch: readonly string[];
  /** Globs, relative to the paths above. */
  readonly exclude: readonly string[];
  readonly events: EventMask;
  readonly onlyDir: boolean;
  readonly autoAllowOwner: boolean;
  readonly audit: boolean;
  readonly recursive: boolean;
  /** 0 = no limit. */
  readonly maxDepth: number;
  /** Only processes of the container are judged. */
  readonly onlyContainer: boolean;
  readonly exact: boolean;
}

/** ... and what its guard says. */
export interface NativePolicy extends SubjectPolicy {
  /** False: what it denies is allowed, and recorded as what would have been denied. */
  readonly enforced: boolean;
}

/** What is worth telling about where a path of a subject leads; see native/cover/path_note.h. */
export interface PathNote {
  readonly subjectId: number;
  /** As the subject has it. */
  readonly path: string;
  readonly missing: boolean;
  /** The program that it is, symlinks followed; "": it is none. Bytes that are not UTF-8 are replaced. */
  readonly program: string;
  /** Of that program, on its file system: hard links. */
  readonly names: number;
  /** Why it is not guarded now; "": it is. Only of a guard that is `partial`. */
  readonly fault: string;
}

/** One subject of a guard, on one container. */
export interface NativeSubject {
  /** Unique in the daemon; comes back in events as `subject_id`. 1 .. 2^31-1. */
  readonly id: number;
  /** 64 hex characters. */
  readonly containerId: string;
  /** What it says: index into `NativeGuard.policies`. */
  readonly policy: number;
}

export interface NativeGuard {
  /** The caller's key: applying the same key again replaces. 1 .. 2^31-1. */
  readonly key: number;
  readonly policies: readonly NativePolicy[];
  readonly subjects: readonly NativeSubject[];
  /**
   * A path that cannot be guarded now costs itself only: `pathNotes` tells of it, and it is guarded when `retry`, or a
   * change of mounts or names, finds that it can be. If none can be, `apply` throws all the same.
   */
  readonly partial: boolean;
}

export interface ContainerInfo {
  /** 64 hex characters (or the runtime's own name, if it uses another form). */
  readonly id: string;
  readonly cgroupId: bigint;
  readonly cgroupPath: string;
  /** The container's first process. */
  readonly initPid: number;
  readonly pids: readonly number[];
}

/** A container as it runs now. */
export interface ContainerSummary {
  readonly id: string;
  readonly cgroupPath: string;
  /** That the path is of; 0: cgroup v2. */
  readonly hierarchy: number;
  readonly firstPid: number;
  /** Its first process, by the wall clock. */
  readonly startedMs: number;
  readonly processes: number;
}

export interface ProcessSummary {
  readonly pid: number;
  readonly ppid: number;
  readonly uid: number;
  readonly startedMs: number;
  /** Unique since boot. */
  readonly mountNamespace: bigint;
  readonly comm: string;
  readonly executable: string;
  /** The container's first process, and those that it forked itself: what `autoAllowOwner` goes by. */
  readonly init: boolean;
  readonly child: boolean;
}

/** A container of a pod that is about to run its first program, and that nobody has admitted yet. */
export interface Arrival {
  /** The same as `ContainerInfo.cgroupId`. */
  readonly cgroupId: bigint;
  /** 64 hex characters. A guard can be applied to it now: its mounts are there. */
  readonly containerId: string;
  /**
   * As `metadata.uid`; of a static pod, its hash: annotation `kubernetes.io/config.hash` of the mirror pod, whose
   * own uid is another. The sandbox (pause container) arrives with the same.
   */
  readonly podUid: string;
  /** From the root of its hierarchy, as far as the container's own cgroup. */
  readonly cgroupPath: string;
  /** Of the process that is held: still the runtime's, or already the program (native/hold/arrivals.h). */
  readonly pid: number;
  /** Since it was about to run. Milliseconds. */
  readonly heldMs: number;
  /** False: it runs already. The tier is `off`, `podWaitMs` is 0, or something came in between. */
  readonly held: boolean;
}

/** How a rule at or above a path stands to it; see native/policy/policy.h. */
export type Bearing = "applies" | "shadowed" | "otherEvent" | "otherActor" | "onlyDirectories" | "tooDeep" | "excluded";

/** How an open or a change of a path would be judged; see native/decide/explainer.h. Bytes that are not UTF-8 are replaced. */
export interface Explanation {
  readonly container: string;
  readonly seen: string;
  readonly exists: boolean;
  readonly directory: boolean;
  readonly symlink: boolean;
  readonly links: number;
  readonly fileSystem: string;
  readonly judgedAs: readonly string[];
  readonly rules: readonly {
    readonly subjectId: number;
    readonly action: string;
    readonly path: string;
    readonly bearing: Bearing;
    readonly answered: boolean;
  }[];
  readonly verdicts: readonly {
    readonly who: "container" | "owner" | "node" | "process";
    readonly judged: boolean;
    readonly answered: boolean;
    readonly response: number;
    readonly owner: boolean;
    readonly anything: boolean;
    readonly subjectId: number;
    readonly action: string;
    readonly path: string;
    readonly otherIds: readonly number[];
  }[];
  readonly cover: {
    readonly identity: boolean;
    readonly superblock: boolean;
    readonly mount: boolean;
    readonly told: boolean;
    readonly ignored: boolean;
    readonly never: string;
  };
}

/**
 * What the addon throws. `code`:
 * - NOT_FOUND: no running container of that id
 * - AMBIGUOUS: a short id that fits several
 * - INVALID: a path or combination that cannot be guarded (`subjectIndex`, `path`)
 * - UNSUPPORTED: this kernel or file system cannot do it
 * - EXHAUSTED: a limit of the kernel or of the options is met
 * - SYSTEM: a system call failed; `errno`, `operation`, `target` say which
 */
export type NativeErrorCode = "NOT_FOUND" | "AMBIGUOUS" | "INVALID" | "UNSUPPORTED" | "EXHAUSTED" | "SYSTEM";

export interface NativeError extends Error {
  readonly code: NativeErrorCode;
  readonly errno?: number;
  readonly operation?: string;
  readonly target?: string;
  /** Key of the guard that it is about. */
  readonly guardKey?: number;
  /** Index into `NativeGuard.subjects`. */
  readonly subjectIndex?: number;
  readonly path?: string;
}

/** Exact decision counts, kept natively even when event records are dropped. */
export interface DecisionCount {
  readonly subjectId: number;
  /** FileEventKind. */
  readonly kind: number;
  /** RESPONSES of event/layout.ts, by number. */
  readonly response: number;
  /** Answered (the actor waited), or only seen. */
  readonly answered: boolean;
  readonly count: number;
}

export interface BlockedHistogram {
  readonly subjectId: number;
  readonly response: number;
  /** Not cumulative; one more than `blockedBoundsSeconds` (the last is +Inf). */
  readonly buckets: readonly number[];
  readonly sumSeconds: number;
}

export interface EbpfMap {
  readonly name: string;
  /** Kernel memory that it takes now. */
  readonly bytes: number;
  /** Of a ring, bytes. */
  readonly maxEntries: number;
  /** Entries that found no room. */
  readonly full: number;
}

export type Thread =
  | "gate"
  | "watchdog"
  | "observer"
  | "dirents"
  | "planner"
  | "mounts"
  | "tracker"
  | "scanner"
  | "waker"
  | "last_resort";

/** What tells whether the engine works. Costs little to ask, however many guards there are. */
export interface EngineVitals {
  /** Names of the eBPF programs that the kernel has attached (or loaded, where they are only called by us) now. */
  readonly programs: readonly string[];
  readonly ring: { readonly bytes: number; readonly used: number; readonly written: number };
  /**
   * Milliseconds since each thread last proved that it moves (each wakes at least once a second). `denials` is there
   * only where the kernel decides.
   */
  readonly heartbeatMs: Readonly<Record<Thread, number>> & { readonly denials?: number };
}

/** What the guards of one container did not get, since others need theirs. */
export interface Refused {
  readonly container: string;
  /** `pins`. */
  readonly resource: string;
  readonly count: number;
}

/** What goes wrong, counted since the start. Costs little to ask, however many guards there are. */
export interface EngineTroubles {
  /** Records or events lost, by cause: `ring_full`, `kernel_queue_overflow`, `dirent_queue`, `bpf_ring_full`. */
  readonly losses: Readonly<Record<string, number>>;
  /** Opens not judged, or moments in which they might not have been, by cause. */
  readonly exposure: Readonly<Record<string, number>>;
  /** Entries that found no room, by eBPF map. */
  readonly full: Readonly<Record<string, number>>;
  /** What containers were refused that had used up their share, since the start. */
  readonly refused: readonly Refused[];
}

export interface EngineStats extends EngineVitals, EngineTroubles {
  readonly decisions: readonly DecisionCount[];
  readonly blocked: readonly BlockedHistogram[];
  /** Every permission event read, guarded or not: `guarded`, `unguarded`, `canary`, `self`, `late`. */
  readonly asked: Readonly<Record<string, number>>;
  /** Directories in watched trees of which events may have gone unseen, by cause: `late`, `unknown`, `limit`. */
  readonly unwatched: Readonly<Record<string, number>>;
  /** Marks held, by kind: `superblock`, `mount`, `identity`, `watch`, `dirents`, `ignore` (since the last forgetting). */
  readonly marks: Readonly<Record<string, number>>;
  /** Guarded directories whose contents are not all pinned yet. */
  readonly scansPending: number;
  readonly containers: number;
  readonly processes: number;
  readonly maps: readonly EbpfMap[];
  /** Records that the eBPF programs wrote into their ring, and the bytes of it that waited at once, at most. */
  readonly bpfRecords: number;
  readonly bpfRingPeak: number;
  /** What tells of new mounts and namespaces: `fentry`, `syscalls`, `scheduler` or `off`; see native/hold/holder.h. */
  readonly holdTier: string;
  /** Whether the kernel denies by itself what is certain. */
  readonly kernelDecides: boolean;
  /** Whether it does so alone where all is certain: not if it may interrupt a program for another task. */
  readonly kernelAlone: boolean;
  /** Whether that stays so when this process is gone. */
  readonly kept: boolean;
  /** Opens while no daemon was there, as the kernel counted them: `denied`, `too_deep` (of those), `unjudged`, `refused`. */
  readonly away: Readonly<Record<string, number>>;
  /** How long that was. */
  readonly awaySeconds: number;
  /** Processes that changed their mounts: `held`, `skipped` (not stopped: it is traced, say), `expired` (let go by the keeper). */
  readonly holds: Readonly<Record<string, number>>;
  /** Containers of pods that started; see `Engine.holdArrivals`. */
  readonly arrivals: {
    /** `admitted` and `expired` were held; `unheld` were not. */
    readonly outcomes: Readonly<Record<string, number>>;
    /** How long those admitted were held: by `blockedBoundsSeconds`, as in `BlockedHistogram`. */
    readonly waited: readonly number[];
    readonly waitedSeconds: number;
  };
  /** 1 for each thread that runs before all ordinary threads of the node now; 0 for one that may not, or takes too much. */
  readonly urgent: Readonly<Record<string, number>>;
}

declare const tables: unique symbol;
/** The engine's own. */
export interface RehearsalTables {
  readonly [tables]: never;
}

/** A guard as it would be held; see native/decide/rehearsal.h. */
export interface Rehearsal {
  readonly tables: RehearsalTables;
  /** Paths of it that lead nowhere now. */
  readonly faults: readonly { readonly path: string; readonly reason: string }[];
}

export interface JudgedPast {
  /** As in a record. */
  readonly response: number;
  /** It hangs on whether the process was the owner, which isn't known any more: it was taken for none. */
  readonly assumed: boolean;
}

export interface Engine {
  /** Loads the eBPF programs, creates the groups, starts the threads. Throws NativeError and leaves nothing behind. */
  start(): void;
  /** Ordered; answers what is pending with allow. After it only `drain` may be called. */
  stop(): void;
  /** 12 or 64 hex characters, or a runtime's own full name. Throws NOT_FOUND, AMBIGUOUS. */
  findContainer(id: string): ContainerInfo;
  /** Those of `ids` that findContainer would not find now. One look at the node's processes for all of them. */
  missingContainers(ids: readonly string[]): string[];
  /** Tracked containers; with `all` every other whose cgroup's name is an id (64 hex characters), too. One walk over all processes. */
  listContainers(all: boolean): ContainerSummary[];
  /** Of any container. Throws as findContainer does. */
  listProcesses(id: string): ProcessSummary[];
  /**
   * How the open of `path` would be judged, by the gate's own code. `kind`: a FileEventKind that can be answered. `pid`:
   * of a process to be judged, too; 0: none. Throws as findContainer does, and INVALID: with a path, that leads nowhere;
   * without, there is no such process.
   */
  explain(id: string, path: string, kind: number, pid: number): Explanation;
  /**
   * Makes ready to judge events that were recorded by a guard that isn't held, by the gate's own code. Changes nothing.
   * Throws as findContainer does.
   */
  rehearse(guard: NativeGuard): Rehearsal;
  /**
   * How an event would have been judged. `record`: a whole one, of a subject on that container. Undefined: the guard has
   * no say about it.
   */
  judgePast(tables: RehearsalTables, record: Uint8Array, containerId: string): JudgedPast | undefined;
  /**
   * Creates or replaces them all, at one moment and with no unguarded one. Enforces when it returns. Throws, and then
   * has changed nothing.
   */
  apply(guards: readonly NativeGuard[]): void;
  /**
   * On: each container of a pod whose cgroup is made from now on is held at its first program, until `admit`, or for
   * `podWaitMs`. That costs nothing on nodes where it is off: keep it on only while some guard could select pods of
   * this node. Off: all go on. Containers that are there already are never held, nor is what is run in an admitted one.
   * Takes some ten milliseconds. Throws UNSUPPORTED, and is off then.
   */
  holdArrivals(on: boolean): void;
  /**
   * All guards of before are in place: what daemons that are gone have left in the kernel goes, now and as they go.
   * Returns what has gone since this was last asked.
   */
  takeOver(): TakenOver;
  /**
   * Those that arrived since the last call. `onWake` is called for them at once, and once a second while holding is on.
   * Call this each time: nobody is held for a daemon that doesn't for twice `podWaitMs` and two seconds. Each has to
   * be admitted, sandboxes and those that no guard selects, too.
   */
  takeArrivals(): Arrival[];
  /**
   * The container goes on, and nothing that runs in it is held any more. `guarded`: its guards have been applied (false:
   * none selects it). Returns whether it still waited: if so, its first program begins now. If not, it went on before
   * (exposure `pod_unknown`), or has ended. Admitting twice does nothing.
   */
  admit(cgroupId: bigint, guarded: boolean): boolean;
  /** Descriptor of the canary's file system (native/cover/canary.h). It is the engine's, and ends with it. */
  canary(): number;
  /** False if there is no such guard. */
  remove(key: number): boolean;
  /** Looks again at the paths of a guard that could not be guarded. */
  retry(key: number): void;
  /** Of the guard's paths, as they were resolved last. Looks at no file. */
  pathNotes(key: number): PathNote[];
  /** Container ids that ended since the last call. The engine keeps their guards until they are removed. */
  takeEnded(): string[];
  /** Copies whole records into `into`; returns the bytes written. 0: the ring is empty. */
  drain(into: Uint8Array): number;
  vitals(): EngineVitals;
  troubles(): EngineTroubles;
  /** Takes longer the more guards there are. */
  stats(): EngineStats;
}

/** What daemons that are gone had left in the kernel; see native/ebpf/pins.h. */
export interface TakenOver {
  /** How many. 0: nothing was there. */
  readonly daemons: number;
  /** For how long none was there. Milliseconds. */
  readonly awayMs: number;
  /** Opens that the kernel has denied meanwhile. */
  readonly denied: number;
  /** ... and those that only a daemon could have judged: allowed, or denied (`AwayMode`). */
  readonly unjudged: number;
  readonly refused: number;
  /** Of each whose layout is another one: of those nothing more is known. 0: not known either. */
  readonly layouts: readonly number[];
}

/** Who connected to a Unix socket, as the kernel saw it at that moment. */
export interface Peer {
  /** As the daemon's PID namespace knows it; 0: it has no number there. */
  readonly pid: number;
  readonly uid: number;
}

/** What a daemon keeps in the kernel, or has left there; see native/ebpf/kept.h. */
export interface KeptState {
  /** Below /sys/fs/bpf/janusd. */
  readonly directory: string;
  /** Which it is laid out in; 0: not known. */
  readonly layout: number;
  /** Undefined: of another layout than ours. */
  readonly daemon?: {
    /** In the node's own pid namespace. */
    readonly pid: number;
    readonly version: string;
    /** Of its policy. */
    readonly generation: number;
    /** False: it has gone. */
    readonly there: boolean;
    /** Since it last said that it is there. */
    readonly beatMs: number;
    /** Since it has gone; 0: it has not. */
    readonly awayMs: number;
    /** Opens since then, as in TakenOver. */
    readonly denied: number;
    readonly unjudged: number;
    readonly refused: number;
  };
}

export interface Addon {
  probe(): Probe;
  /** Of all daemons. Changes nothing; empty, if this process may not look. */
  kept(): KeptState[];
  /** What a daemon keeps, by its directory, denies nothing from now on, or from the moment on that the daemon goes. */
  endKept(directory: string): void;
  layout(): NativeLayout;
  /** flock(2) of a descriptor, exclusive, until its file is closed. False: somebody else has it. Throws NativeError. */
  tryLock(fd: number): boolean;
  /** Of a connected Unix socket's descriptor. Throws NativeError for any other. */
  peer(descriptor: number): Peer;
  /** Whether the pattern matches all of the text, or a leading directory of it (native/policy/glob.h). Bytes. */
  globCovers(pattern: Uint8Array, text: Uint8Array): boolean;
  /** Upper bounds of the blocked-time buckets. */
  readonly blockedBoundsSeconds: readonly number[];
  /**
   * `onWake` is called on the JavaScript thread, coalesced, when the ring went
   * from empty to not empty or a container ended.
   */
  readonly Engine: new (
    options: EngineOptions,
    onWake: () => void,
  ) => Engine;
}

/** Throws a plain Error that says how to build it, if the addon isn't there. */
export function loadAddon(): Addon {
  const require = createRequire(import.meta.url);
  const file = new URL("../native/build/Release/janusd.node", import.meta.url).pathname;
  try {
    return require(file) as Addon;
  } catch (cause) {
    throw new Error(`cannot load the native addon ${file}: run "make build" first`, { cause });
  }
}
