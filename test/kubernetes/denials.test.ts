/** What is told of denials, and how much of it: whatever is denied, memory and requests have a bound. */
import t from "tap";
import { FLAG } from "../../src/event/layout.js";
import { type Denial, Denials } from "../../src/kubernetes/denials.js";
import { NO_DENIERS, type SubjectContext } from "../../src/subject.js";
import { type RecordFields, subjectOf, viewOf } from "../support/records.js";

const [ALLOW, DENY, AUDIT] = [0, 1, 2];
const [OPEN, EXEC, MODIFY, DELETE, MOVEDFROM, MOVEDTO, WRITE] = [0, 2, 3, 8, 10, 11, 16];

function setUp() {
  const clock = { now: 0 };
  const denials = new Denials(() => clock.now);
  const deny = (subject: Partial<SubjectContext> = {}, fields: RecordFields = {}): void => {
    const about = { namespace: "shop", guard: "secrets", pod: "web", podUid: "uid-1", containerName: "main" };
    const view = viewOf({ response: DENY, kind: OPEN, flags: FLAG.inside, ...fields });
    denials.write(view, subjectOf({ ...about, ...subject }), NO_DENIERS);
  };
  /** As if each were written. */
  const tell = (): Denial[] => {
    const told: Denial[] = [];
    for (let denial = denials.take(); denial !== undefined; denial = denials.take()) {
      denial.told = denial.count;
      told.push(denial);
    }
    return told;
  };
  return { clock, denials, deny, tell };
}

t.test("what is denied, by guard, pod and what was asked", async (t) => {
  const { deny, tell } = setUp();
  deny({}, { response: ALLOW });
  deny({}, { response: AUDIT });
  deny({}, { kind: MODIFY });
  deny({ podUid: "" });
  t.same(tell(), []);
  for (let i = 0; i < 3; ++i) deny({}, { path: `/etc/s'\n${i}` });
  deny({ containerName: "other" });
  deny({}, { kind: EXEC, flags: 0 });
  deny({ podUid: "uid-2" });
  deny({ guard: "more" });
  t.match(tell(), [
    {
      count: 4,
      reason: "OpenDenied",
      message: "cat (uid 0) was denied to open '/etc/s\\x27\\x0a0' in container main by shop/secrets",
    },
    { count: 1, reason: "ExecDenied", message: /^cat \(uid 0\), which is not the container's, was denied to exec / },
    { count: 1, reason: "OpenDenied", subject: { podUid: "uid-2" } },
    { count: 1, reason: "OpenDenied", message: /by shop\/more$/ },
  ]);
});

t.test("a change that is denied; renames of both kinds are one Event", async (t) => {
  const { deny, tell } = setUp();
  for (const kind of [DELETE, MOVEDFROM, MOVEDTO, WRITE]) deny({}, { kind, path: "/etc/s" });
  t.match(tell(), [
    {
      count: 1,
      reason: "DeleteDenied",
      message: /was denied to delete '\/etc\/s' in container main by shop\/secrets$/,
    },
    { count: 2, reason: "MoveDenied", message: /was denied to rename '\/etc\/s' / },
    { count: 1, reason: "WriteDenied", message: /was denied to write to '\/etc\/s' / },
  ]);
});

t.test("an Event goes on, is not written too often, and begins anew when it is gone", async (t) => {
  const { clock, denials, deny, tell } = setUp();
  deny({ pod: `${"p".repeat(229)}.x` });
  const [denial] = tell();
  const event = denial?.event ?? "";
  t.match(event, /^p{229}\.[0-9a-f]{16}$/);
  for (let i = 0; i < 1000; ++i) deny({}, { path: `/${i}` });
  t.same(tell(), [], "soon after");
  t.ok(denials.waiting);
  clock.now += 10_000;
  t.match(tell(), [{ event, count: 1001, message: /'\/0'/ }]);
  t.notOk(denials.waiting);
  deny();
  denial?.renew();
  clock.now += 10_000;
  t.match(tell(), [{ count: 1, told: 1 }]);
  t.not(denial?.event, event);
});

t.test("a storm takes no memory, no requests, and no other guard's place", async (t) => {
  const { clock, denials, deny, tell } = setUp();
  for (let pod = 0; pod < 10_000; ++pod) deny({ guard: "storm", podUid: `${pod}` });
  t.equal(denials.size, 128);
  t.equal(denials.suppressed, 10_000 - 128);
  deny({ guard: "quiet" });
  const told = tell();
  t.equal(told.filter(({ subject }) => subject.guard === "storm").length, 20);
  t.equal(told.filter(({ subject }) => subject.guard === "quiet").length, 1);
  clock.now += 60_000;
  t.equal(tell().length, 4, "a minute later");
  for (let guard = 0; guard < 1000; ++guard) deny({ guard: `${guard}` });
  t.equal(denials.size, 1024, "of all guards together");
  clock.now += 1_000_000;
  t.equal(tell().length, 50, "of all guards at once");
});

t.test("what cannot be told is counted, and what is over forgotten", async (t) => {
  const { clock, denials, deny, tell } = setUp();
  deny();
  deny();
  const denial = denials.take();
  if (denial === undefined) return t.fail("nothing is told");
  denials.putBack(denial);
  t.equal(denials.take(), denial, "at once: the writer sees to the pause");
  denials.giveUp(denial);
  t.equal(denials.suppressed, 2);
  t.equal(denials.size, 0);
  deny();
  t.equal(tell().length, 1);
  denials.sweep();
  t.equal(denials.size, 1, "it may come again");
  clock.now += 301_000;
  denials.sweep();
  t.equal(denials.size, 0);
});
