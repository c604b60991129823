import t from "tap";
import { type NoticedStats, Notices } from "../src/notices.js";

const statsOf = (lost: number, exposed: number, full: number): NoticedStats => ({
  losses: { ring_full: lost },
  exposure: { deadline: exposed },
  maps: [{ name: "tasks", bytes: 4096, maxEntries: 1024, full }],
  refused: [],
});

t.test("what grew is said once, with how much", async (t) => {
  const said: [object, string][] = [];
  const notices = new Notices({ warn: (about, message) => said.push([about, message]) });
  notices.look(statsOf(0, 0, 0));
  t.same(said, []);
  notices.look(statsOf(5, 1, 2));
  t.same(said.splice(0), [
    [{ cause: "ring_full", count: 5, total: 5 }, "event records were lost"],
    [{ cause: "deadline", count: 1, total: 1 }, "opens may not have been judged"],
    [{ cause: "tasks", count: 2, total: 2 }, "an eBPF map is full"],
  ]);
  notices.look(statsOf(5, 1, 2));
  t.same(said, []);
  notices.look(statsOf(7, 1, 2));
  t.same(said, [[{ cause: "ring_full", count: 2, total: 7 }, "event records were lost"]]);
});

t.test("a container that takes more than its share is named, once in six looks", async (t) => {
  const said: object[] = [];
  const notices = new Notices({ warn: (about) => said.push(about) });
  const look = (...refused: NoticedStats["refused"]) => notices.look({ ...statsOf(0, 0, 0), refused });
  const pins = (container: string, count: number) => ({ container, resource: "pins", count });
  look(pins("a", 5));
  t.same(said.splice(0), [{ container: "a", resource: "pins", count: 5, total: 5 }]);
  for (let i = 1; i <= 6; ++i) look(pins("a", 5 + i), pins("b", 1));
  t.same(said.splice(0), [{ container: "b", resource: "pins", count: 1, total: 1 }], "another is said at once");
  look(pins("a", 12), pins("b", 1));
  t.same(said.splice(0), [{ container: "a", resource: "pins", count: 7, total: 12 }], "and what was kept, as one");
  for (let i = 0; i < 20; ++i) look(pins("a", 12));
  t.same(said, [], "nothing more, nothing said");
  look(pins("a", 13), { container: "a", resource: "names", count: 2 });
  t.equal(said.length, 2, "each resource");
});
