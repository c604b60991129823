/** A daemon is silent by the reader's clock; what its own clock says counts where it is seen for the first time. */
import t from "tap";
import { Pulse } from "../../src/kubernetes/pulse.js";

const MINUTE = 60_000;

t.test("who is not heard for five minutes is silent", async (t) => {
  const clock = { now: 0 };
  const pulse = new Pulse(() => clock.now);
  const at = (ms: number): string => new Date(Date.now() + ms).toISOString();
  const silent = (nodes: Readonly<Record<string, string>>): string[] => [
    ...pulse.silent(Object.entries(nodes).map(([name, heartbeat]) => ({ name, heartbeat }))),
  ];
  const first = { dead: at(-10 * MINUTE), lives: at(0), slow: at(-3 * MINUTE), ahead: at(60 * MINUTE), mute: "" };
  t.same(silent(first), ["dead"], "of a leader that has just begun, by their clocks");
  clock.now += 2.5 * MINUTE;
  t.same(silent({ ...first, lives: at(1) }), ["dead", "slow"]);
  // Its clock is an hour late, and it lives.
  t.same(silent({ ...first, dead: at(-60 * MINUTE), lives: at(1) }), ["slow"]);
  clock.now += 2.6 * MINUTE;
  t.same(silent({ ...first, dead: at(-58 * MINUTE), lives: at(1) }), ["slow", "ahead", "mute"]);
  t.same(silent({ lives: at(2) }), [], "nodes that are gone are forgotten");
});
