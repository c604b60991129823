/** Where the limits are. What makes each check fail is in test/kernel, with a real daemon. */
import t from "tap";
import { Health, type HealthOptions } from "../src/health.js";
import type { Thread } from "../src/native.js";

const heartbeatMs: Record<Thread, number> = {
  gate: 10,
  observer: 10,
  dirents: 10,
  planner: 10,
  mounts: 10,
  tracker: 10,
  watchdog: 10,
  scanner: 10,
  waker: 10,
  last_resort: 10,
};

function setUp(tls?: HealthOptions["tls"]) {
  const state = {
    now: 0,
    drained: 0,
    heartbeatMs: { ...heartbeatMs },
    programs: ["on_fork", "on_exit"],
    ring: { bytes: 1024, used: 0, written: 0 },
  };
  const health = new Health({
    vitals: () => state,
    drained: () => state.drained,
    pending: () => [],
    tls,
    programs: ["on_fork", "on_exit"],
    now: () => state.now,
  });
  const failed = () => health.assess().checks.flatMap(({ name, ok }) => (ok ? [] : [name]));
  return { state, health, failed };
}

t.test("a thread that stands still: 5 s are not ready, 30 s of gate or watchdog take a restart", async (t) => {
  for (const thread of Object.keys(heartbeatMs) as Thread[]) {
    const { state, health, failed } = setUp();
    state.heartbeatMs[thread] = 4_900;
    t.match(health.assess(), { ready: true, live: true });
    state.heartbeatMs[thread] = 6_000;
    t.same(failed(), [thread]);
    t.match(health.assess(), { ready: false, live: true });
    state.heartbeatMs[thread] = 31_000;
    t.equal(health.assess().live, thread !== "gate" && thread !== "watchdog", "only those that hold containers up");
  }
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

t.test("a certificate that has expired", async (t) => {
  const tls = { failure: undefined, expires: new Date("2100-01-01") };
  const { health, failed } = setUp(tls);
  t.same(failed(), []);
  t.match(health.assess().checks.at(-1), {
    name: "tls",
    detail: "the certificate is good until 2100-01-01T00:00:00.000Z",
  });
  tls.expires = new Date("2001-01-01");
  t.same(failed(), ["tls"]);
  t.match(health.assess(), { ready: false, live: true });
});
