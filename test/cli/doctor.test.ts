/** What the doctor concludes of machines that are not this one. */
import { create } from "@bufbuild/protobuf";
import t from "tap";
import { diagnose, formatDiagnosis } from "../../src/cli/doctor.js";
import type { Machine } from "../../src/cli/machine.js";
import { GetStatusResponseSchema } from "../../src/gen/janus/v1/inspection_pb.js";
import { type Feature, type KeptState, loadAddon, type Probe } from "../../src/native.js";

const noDaemon = { error: "UNAVAILABLE" };

const machine: Machine = {
  securityModules: ["lockdown", "bpf"],
  lockdown: "none",
  renameLock: true,
  capabilities: "000001ffffffffff",
  maxUserGroups: 128,
  maxUserMarks: 100_000,
  openFiles: 1_048_576,
  lockedMemory: Number.POSITIVE_INFINITY,
  bpfFileSystem: true,
  cgroups: { layout: "v2", inV2: 3, inV1: 0 },
};

/** A machine that can do all but these. */
function probeWithout(...features: readonly Feature[]): Probe {
  const here = loadAddon().probe();
  const all = Object.fromEntries(
    Object.entries(here.features).map(([name, trial]) => {
      const works = !features.some((feature) => feature === name);
      return [name, { ...trial, works, reason: works ? "" : "Invalid argument" }];
    }),
  );
  const capabilities = here.capabilities.map((capability) => ({ ...capability, held: true }));
  return { ...here, capabilities, btf: true, overlayBtf: true, missing: [], features: { ...here.features, ...all } };
}

t.test("nothing is missing, and nothing would be better", async (t) => {
  const diagnosis = diagnose(probeWithout(), machine, [], noDaemon);
  t.match(diagnosis, { holdTier: "fentry", missing: [], next: [] });
  t.notMatch(formatDiagnosis(diagnosis), /MISSING|missing:|next:/);
});

t.test("the next tier up, and what to change for it", async (t) => {
  const tier = (...features: readonly Feature[]) => diagnose(probeWithout(...features), machine, [], noDaemon);
  t.match(tier("fentry"), {
    holdTier: "scheduler",
    missing: [],
    next: [/^hold tier fentry, .*Invalid argument$/, /^hold tier syscalls: start with --hold=syscalls/],
  });
  t.match(tier("fentry", "syscall_tracepoints").next[1], /^hold tier syscalls: mount -t tracefs .* --hold=syscalls/);
  t.match(tier("fentry", "bpf_send_signal_task"), { holdTier: "off", next: [/^hold tier fentry/, /Linux 6\.13/] });
  const old = tier("fanotify_directory_ignore_marks", "fanotify_overlay_file_handles");
  t.match(old.next, [/^Linux 6\.0 /, /^Linux 6\.6 /]);
  const { capabilities, ...probe } = probeWithout();
  const plain = { ...probe, capabilities: capabilities.map((one) => ({ ...one, held: one.name !== "CAP_SYS_NICE" })) };
  t.match(diagnose(plain, machine, [], noDaemon), { missing: [], next: [/^CAP_SYS_NICE for answering before /] });
  t.match(diagnose(probeWithout(), { ...machine, renameLock: false, openFiles: 1024 }, [], noDaemon).next, [
    /rename_lock .*kptr_restrict/,
    /4096 open files/,
  ]);
});

t.test("what is missing, a line each", async (t) => {
  const probe = { ...probeWithout("fanotify_permission_events"), missing: ["this kernel has no permission events"] };
  const status = create(GetStatusResponseSchema, {
    version: "1.2.3",
    checks: [
      { name: "gate", ok: false, detail: "moved 9000 ms ago" },
      { name: "ring", ok: true, detail: "empty" },
    ],
  });
  const diagnosis = diagnose(probe, { ...machine, lockdown: "confidentiality", maxUserGroups: 4 }, [], { status });
  t.match(diagnosis.missing, [
    "this kernel has no permission events",
    /^lockdown .*lockdown=integrity$/,
    /^fs\.fanotify\.max_user_groups is 4: sysctl -w /,
    "the daemon's gate: moved 9000 ms ago",
  ]);
  t.equal(diagnosis.missing.length, 4);
  const text = formatDiagnosis(diagnosis);
  for (const line of diagnosis.missing) t.ok(text.includes(`\nmissing: ${line}\n`), line);
  t.match(text, /^fanotify +permission_events +MISSING +Invalid argument$/m);
  t.match(text, /^daemon +answers +ok +janusd 1\.2\.3/m);
});

t.test("what is kept in the kernel, and what to do about it without a daemon", async (t) => {
  const counts = { denied: 12, unjudged: 3, refused: 0 };
  const daemon = { pid: 7, version: "1.2.3", generation: 9, there: true, beatMs: 210, awayMs: 0, ...counts };
  const there: KeptState = { directory: "7-1", layout: 1, daemon };
  const gone: KeptState = { ...there, daemon: { ...daemon, there: false, beatMs: 35_400, awayMs: 35_200 } };
  const other: KeptState = { directory: "8-1", layout: 99 };
  const told = (kept: readonly KeptState[], answer: Parameters<typeof diagnose>[3] = noDaemon) => {
    const { findings, missing, next } = diagnose(probeWithout(), machine, kept, answer);
    t.same(missing, []);
    return { kept: findings.filter(({ group }) => group === "kept"), next };
  };
  t.same(told([]), { kept: [], next: [] });
  const beat = "janusd 1.2.3, layout 1, policy generation 9, last heartbeat 0.2 s ago";
  t.match(told([there]), { kept: [{ name: "pid 7", ok: true, needed: false, detail: beat }], next: [] });
  const left = told([gone]);
  t.match(left.kept, [
    { ok: false, detail: /heartbeat 35\.4 s ago; gone for 35\.2 s: 12 opens denied, 3 not judged, 0 refused$/ },
  ]);
  t.match(left.next, [/janusctl release$/]);
  t.match(told([other]), { kept: [{ name: "8-1", ok: false, detail: /layout 99$/ }], next: [/janusctl release$/] });
  t.same(told([gone, there]).next, [], "the one that is there takes over");
  t.same(told([gone], { status: create(GetStatusResponseSchema, {}) }).next, []);
});

t.test("whether what the kernel denies can be kept", async (t) => {
  const tier = (probe: Probe, bpfFileSystem: boolean) => {
    const { findings, next } = diagnose(probe, { ...machine, bpfFileSystem }, [], noDaemon);
    const find = (name: string) => findings.find((finding) => finding.group === "tier" && finding.name === name);
    return { decides: find("kernel decides")?.ok, keep: find("keep")?.ok, next };
  };
  t.same(tier(probeWithout(), true), { decides: true, keep: true, next: [] });
  t.match(tier(probeWithout(), false), { decides: true, keep: false, next: [/^mount -t bpf bpf \/sys\/fs\/bpf/] });
  t.match(tier(probeWithout("fentry"), false), { decides: false, keep: false, next: [/^hold tier/, /^hold tier/] });
});
