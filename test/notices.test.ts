import t from "tap";
import { type NoticedStats, Notices } from "../src/notices.js";

const statsOf = (lost: number, exposed: number, full: number): NoticedStats => ({
  losses: { ring_full: lost },
  exposure: { deadline: exposed },
  maps: [{ name: "tasks", bytes: 4096, maxEntries: 1024, full }],
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
