import t from "tap";
import type { EngineTroubles } from "../src/native.js";
import { Notices } from "../src/notices.js";

const none: EngineTroubles = { losses: {}, exposure: {}, full: {}, refused: [] };

/** Whose clock the test moves. */
function watched() {
  const said: [object, string][] = [];
  let now = 0;
  const notices = new Notices({ warn: (about: object, message: string) => said.push([about, message]) }, () => now);
  return {
    look: (troubles: Partial<EngineTroubles>) => {
      notices.look({ ...none, ...troubles });
      return said.splice(0);
    },
    wait: (seconds: number) => {
      now += seconds * 1000;
    },
  };
}

t.test("what grew is said at once, with how much, and what grows on every ten seconds", async (t) => {
  const { look, wait } = watched();
  const counts = (lost: number, exposed: number, full: number) => ({
    losses: { ring_full: lost },
    exposure: { deadline: exposed },
    full: { tasks: full },
  });
  t.same(look(counts(0, 0, 0)), []);
  t.same(look(counts(5, 1, 2)), [
    [{ cause: "ring_full", count: 5, total: 5 }, "event records were lost"],
    [{ cause: "deadline", count: 1, total: 1 }, "opens may not have been judged"],
    [{ cause: "tasks", count: 2, total: 2 }, "an eBPF map is full"],
  ]);
  t.same(look(counts(6, 1, 2)), []);
  wait(9);
  t.same(look(counts(7, 1, 2)), []);
  wait(1);
  t.same(look(counts(7, 1, 2)), [[{ cause: "ring_full", count: 2, total: 7 }, "event records were lost"]]);
  wait(100);
  t.same(look(counts(7, 1, 2)), [], "nothing more, nothing said");
});

t.test("a container that takes more than its share is named at once, and then once a minute", async (t) => {
  const { look, wait } = watched();
  const lines = (...refused: EngineTroubles["refused"]) => look({ refused }).map(([about]) => about);
  const pins = (container: string, count: number) => ({ container, resource: "pins", count });
  t.same(lines(pins("a", 5)), [{ container: "a", resource: "pins", count: 5, total: 5 }]);
  wait(59);
  t.same(
    lines(pins("a", 11), pins("b", 1)),
    [{ container: "b", resource: "pins", count: 1, total: 1 }],
    "another is said at once",
  );
  t.same(
    lines(pins("a", 11), { container: "a", resource: "names", count: 2 }),
    [{ container: "a", resource: "names", count: 2, total: 2 }],
    "each resource",
  );
  wait(1);
  t.same(
    lines(pins("a", 12)),
    [{ container: "a", resource: "pins", count: 7, total: 12 }],
    "and what was kept, as one",
  );
  wait(60);
  t.same(lines(pins("a", 12)), [], "nothing more, nothing said");
});

t.test("a container that is gone is forgotten", async (t) => {
  const { look } = watched();
  const refused = [{ container: "a", resource: "pins", count: 5 }];
  t.equal(look({ refused }).length, 1);
  t.equal(look({ refused: [] }).length, 0);
  t.equal(look({ refused }).length, 1);
});
