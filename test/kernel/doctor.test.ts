/** `janusctl doctor` on this machine: without a daemon, with one, and where something is missing. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import t from "tap";
import { loadAddon } from "../../src/native.js";
import { startContainer } from "../support/container.js";
import { eventually, freePort, runToEnd, startDaemon } from "../support/daemon.js";
import { janusctl } from "../support/janusctl.js";

const nobody = `127.0.0.1:${await freePort()}`;

interface Finding {
  readonly group: string;
  readonly name: string;
  readonly ok: boolean;
  readonly needed: boolean;
  readonly detail: string;
}

async function doctor(address: string, enter: readonly string[] = []) {
  const { status, out, err } = await janusctl(["doctor", "-o", "json", "--address", address], { enter });
  const { findings, ...rest } = JSON.parse(out);
  const find = (group: string, name: string) =>
    findings.find((finding: Finding) => finding.group === group && finding.name === name);
  return { status, err, findings, find, ...rest };
}

t.test("without a daemon: all that is needed is here, and it is what the daemon would find", async (t) => {
  const { status, err, findings, find, missing, holdTier, next } = await doctor(nobody);
  t.equal(err, "");
  t.equal(status, 0);
  t.same(missing, []);
  for (const { group, name, ok, needed, detail } of findings) {
    t.match({ group, name, ok, needed, detail }, { group: String, name: String, ok: Boolean, needed: Boolean });
    t.equal(typeof detail, "string");
    t.ok(ok || !needed, `${group} ${name}`);
  }
  const { features, capabilities, kernel } = loadAddon().probe();
  t.match(find("kernel", "release").detail, kernel);
  for (const [name, { works }] of Object.entries(features)) {
    const group = name.startsWith("fanotify_") ? "fanotify" : "ebpf";
    t.equal(find(group, name.replace("fanotify_", "")).ok, works, name);
  }
  for (const { name, held, needed } of capabilities) t.match(find("capability", name), { ok: held, needed }, name);
  t.equal(holdTier, features.fentry.works ? "fentry" : "scheduler");
  t.equal(
    next.some((line: string) => line.startsWith("hold tier")),
    !features.fentry.works,
  );
  t.match(find("daemon", "answers"), { ok: false, needed: false, detail: /UNAVAILABLE/ });
  await eventually("no program of the trials is left", () => {
    const { stdout, error } = spawnSync("bpftool", ["prog", "show", "name", "janusd_probe"], {
      encoding: "utf8",
      env: { PATH: `${process.env["PATH"]}:/usr/sbin` },
    });
    if (error !== undefined) throw error;
    return stdout === "";
  });
});

t.test("with a daemon: what it says of itself; a container shows in the cgroups", async (t) => {
  const container = await startContainer({}, t);
  const daemon = await startDaemon({}, t);
  const { status, find, findings, holdTier } = await doctor(daemon.grpcAddress);
  t.equal(status, 0);
  t.match(find("daemon", "answers"), { ok: true, detail: `pid ${daemon.pid}, hold tier ${holdTier}, 0 guards` });
  for (const check of ["gate", "tracker", "ebpf", "ring"]) t.match(find("daemon", check), { ok: true, needed: true });
  const { name, detail } = findings.find(({ group }: Finding) => group === "cgroup");
  const layout = readFileSync(`/proc/${container.initPid}/cgroup`, "utf8");
  t.equal(name, /^[1-9]/m.test(layout) ? "hybrid" : "v2");
  t.match(detail, /containers in v2: [1-9]/);
  const table = await janusctl(["doctor", "--address", daemon.grpcAddress]);
  t.match(table.out, /^GROUP +NAME +RESULT +DETAIL\n/);
  t.match(table.out, /^daemon +answers +ok +janusd /m);
  await daemon.stop();
});

t.test("an unprivileged user: exit status 1, and a line that says what is missing", async (t) => {
  const enter = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  const { status, out, err } = await janusctl(["doctor", "--address", nobody], { enter });
  t.equal(status, 1);
  t.equal(err, "");
  t.match(out, /^missing: must run as root.*CAP_SYS_ADMIN/m);
  t.match(out, /^capability +CAP_SYS_ADMIN +MISSING /m);
  t.notMatch(out, /^next:/m);
});

t.test("no BTF; another pid namespace: the doctor and the daemon say the same", async (t) => {
  const cases = [
    [["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh"], /BTF/],
    [["unshare", "--pid", "--fork", "--mount-proc"], /pid namespace .*hostPID/],
  ] as const;
  for (const [enter, line] of cases) {
    const { status, missing } = await doctor(nobody, enter);
    t.equal(status, 1);
    t.match(missing, [line]);
    t.match(runToEnd([], enter), { status: 1, lines: missing.map((reason: string) => `janusd: ${reason}`) });
  }
});

t.test("a command line that makes no sense", async (t) => {
  t.match(await janusctl(["doctor", "--bogus"]), { status: 2, err: /--bogus/ });
});
