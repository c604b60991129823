import t from "tap";
import { Health } from "../src/health.js";

const THREADS = ["gate", "observer", "planner", "tracker", "watchdog", "scanner", "waker", "last_resort"] as const;

function setUp(tls?: { failure: string | undefined; expires: Date }) {
  const state = {
    now: 0,
    drained: 0,
    heartbeatMs: {
      gate: 10,
      observer: 10,
      planner: 10,
      tracker: 10,
      watchdog: 10,
      scanner: 10,
      waker: 10,
      last_resort: 10,
    },
    programs: ["on_fork", "on_exit"],
    ring: { bytes: 1024, used: 0, written: 0 },
    pending: [] as { guard: string; reason: string }[],
    stateFile: { failure: undefined as string | undefined },
  };
  const health = new Health({
    vitals: () => state,
    drained: () => state.drained,
    pending: () => state.pending,
    stateFile: state.stateFile,
    tls,
    programs: ["on_fork", "on_exit"],
    now: () => state.now,
  });
  const failed = () => health.assess().checks.flatMap(({ name, ok }) => (ok ? [] : [name]));
  return { state, health, failed };
}

t.test("all is well", async (t) => {
  const { health } = setUp();
  t.match(health.assess(), { ready: true, live: true });
  t.same(
    health.assess().checks.map(({ name }) => name),
    [...THREADS, "ebpf", "ring", "guards", "state-file"],
  );
});

t.test("a thread that stands still", async (t) => {
  for (const thread of THREADS) {
    const { state, health, failed } = setUp();
    state.heartbeatMs[thread] = 6_000;
    t.same(failed(), [thread]);
    t.match(health.assess(), { ready: false, live: true });
    state.heartbeatMs[thread] = 31_000;
    t.equal(health.assess().live, thread !== "gate" && thread !== "watchdog", "only those that hold containers up");
  }
});

t.test("an eBPF program that is gone, or none at all", async (t) => {
  const { state, health, failed } = setUp();
  state.programs = ["on_fork"];
  t.same(failed(), ["ebpf"]);
  t.match(health.assess().checks.find(({ name }) => name === "ebpf")?.detail, /on_exit/);
  const none = new Health({
    vitals: () => ({ ...state, programs: [] }),
    drained: () => 0,
    pending: () => [],
    programs: [],
  });
  t.equal(none.assess().ready, false);
});

t.test("a ring that holds records of which none leaves", async (t) => {
  const { state, failed } = setUp();
  t.same(failed(), []);
  state.ring.used = 100;
  state.now += 4_000;
  t.same(failed(), [], "not yet");
  state.now += 2_000;
  t.same(failed(), ["ring"]);
  state.drained = 1;
  t.same(failed(), [], "one left");
  state.now += 60_000;
  state.ring.used = 0;
  t.same(failed(), [], "empty");
});

t.test("a guard of the last run that is not restored yet", async (t) => {
  const { state, health, failed } = setUp();
  state.pending = [{ guard: "secrets", reason: "Too many open files" }];
  t.same(failed(), ["guards"]);
  t.match(health.assess(), { ready: false, live: true }, "a restart would not help");
  t.match(health.assess().checks.at(-2), { detail: "secrets: Too many open files" });
});

t.test("TLS files that cannot be used, a certificate that has expired", async (t) => {
  const tls = { failure: undefined as string | undefined, expires: new Date("2100-01-01") };
  const { health, failed } = setUp(tls);
  t.same(failed(), []);
  t.match(health.assess().checks.at(-1), {
    name: "tls",
    detail: "the certificate is good until 2100-01-01T00:00:00.000Z",
  });
  tls.failure = "--tlskeyfile key: it is another certificate's key";
  t.same(failed(), ["tls"]);
  t.match(health.assess().checks.at(-1), { detail: /^new files cannot be used: --tlskeyfile .* is good until 2100-/ });
  t.match(health.assess(), { ready: false, live: true });
  tls.failure = undefined;
  tls.expires = new Date("2001-01-01");
  t.same(failed(), ["tls"]);
});

t.test("a state file that cannot be written", async (t) => {
  const { state, health, failed } = setUp();
  state.stateFile.failure = "ENOSPC: no space left on device, write";
  t.same(failed(), ["state-file"]);
  t.match(health.assess(), { ready: false, live: true });
  t.match(health.assess().checks.at(-1), { detail: "cannot be written: ENOSPC: no space left on device, write" });
});

t.test("a guard file that cannot be applied, and the reason", async (t) => {
  const { state } = setUp();
  const guardFile: { failure: string | undefined } = { failure: undefined };
  const health = new Health({
    vitals: () => state,
    drained: () => 0,
    pending: () => [],
    guardFile,
    programs: state.programs,
  });
  t.match(health.assess(), { ready: true });
  guardFile.failure = "guards.yaml:3: one\nguards.yaml:7: two";
  const { ready, checks } = health.assess();
  t.equal(ready, false);
  t.match(checks.at(-1), {
    name: "guard-file",
    ok: false,
    detail: "cannot be applied: guards.yaml:3: one; guards.yaml:7: two",
  });
});
