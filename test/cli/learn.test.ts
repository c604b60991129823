/** What was learnt, folded and printed: exact where it can be, bounded, and valid whatever containers call their files. */
import { create } from "@bufbuild/protobuf";
import t from "tap";
import { parseDuration } from "../../src/cli/event-options.js";
import { Learnt, looksGenerated } from "../../src/cli/learnt.js";
import { formatLesson, type Lesson } from "../../src/cli/learnt-text.js";
import { LostCause, LostSchema } from "../../src/gen/janus/v1/events_pb.js";
import { parseGuardFile } from "../../src/guard/file.js";

const paths = (list: readonly { readonly path: string }[]): string[] => list.map(({ path }) => path);

/** Opened by /bin/cat, each once. */
function learntOf(opened: readonly string[], roots: readonly string[] = ["/d"], maxNames?: number): Learnt {
  const learnt = new Learnt(roots, maxNames);
  for (const path of opened) learnt.add(path, true, false, "/bin/cat");
  return learnt;
}

const lessonOf = (learnt: Learnt, rest: Partial<Lesson> = {}): Lesson => ({
  ...{ name: "learnt", container: "ab".repeat(32), paths: ["/d"], roots: ["/d"] },
  ...{ began: new Date(0), ended: new Date(60_000), because: "as long as asked", events: 1, lost: [] },
  learnt: { open: learnt.folded(32), exec: new Learnt(["/d"]).folded(32) },
  ...rest,
});

t.test("a directory of which more is needed than asked for is allowed as a whole; a root never", async (t) => {
  const names = (directory: string, count: number) => Array.from({ length: count }, (_, n) => `${directory}/f${n}`);
  const learnt = learntOf([...names("/d", 5), ...names("/d/a", 4), ...names("/d/b", 3), "/d/c/x/1", "/d/c/y/1"]);
  const at3 = learnt.folded(3);
  t.same(paths(at3.trees), ["/d/a"]);
  t.same(paths(at3.exact), [...names("/d/b", 3), "/d/c/x/1", "/d/c/y/1", ...names("/d", 5)]);
  t.match(at3.trees, [{ paths: 4, uses: { count: 4 }, forced: undefined }]);
  t.same(paths(learnt.folded(1).trees), ["/d/a", "/d/b", "/d/c"], "directories are entries, too");
});

t.test("names that look generated fold what holds three of them", async (t) => {
  const generated = [
    "tmp.a8Fk2LmQ",
    "1764400000",
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "deadbee5",
    "..2026_11_29_07.98765",
  ];
  for (const name of generated) t.ok(looksGenerated(name), name);
  for (const name of ["libc.so.6", "passwd", "README", "feedface", "x86_64-linux-gnu", "Dockerfile", "utf-8", "sha256"])
    t.notOk(looksGenerated(name), name);
  const learnt = learntOf([
    ...["/d/two/12345", "/d/two/123456", "/d/s/12345", "/d/s/23456", "/d/s/34567/in"],
    ...["/d/11111", "/d/22222", "/d/33333"],
  ]);
  const { trees, exact, generated: roots } = learnt.folded(32);
  t.same(paths(trees), ["/d/s"]);
  t.same(paths(exact), ["/d/11111", "/d/22222", "/d/33333", "/d/two/12345", "/d/two/123456"]);
  t.same(roots, ["/d"]);
});

t.test("memory is bounded: the largest directories are folded, and what still has no room is counted", async (t) => {
  const learnt = learntOf([], ["/d"], 100);
  const add = (path: string) => learnt.add(path, true, false, path);
  for (let n = 0; n < 1000; n++) add(`/d/large/${n}x`);
  for (let n = 0; n < 30; n++) add(`/d/small/${n}x`);
  const before = learnt.folded(200);
  t.match(before.trees, [{ path: "/d/large", forced: "names", uses: { count: 1000 } }]);
  t.ok((before.trees[0]?.uses.programs.size ?? 0) <= 4);
  t.equal(before.exact.length, 30);
  for (let n = 0; n < 1000; n++) add(`/d/${n}x/y/z`);
  for (let n = 0; n < 1000; n++) add(`/other/${n}`);
  const { trees, exact, unlisted, elsewhere } = learnt.folded(200);
  t.ok(trees.length + exact.length <= 100, `${trees.length} trees, ${exact.length} paths`);
  t.equal(elsewhere.length, 20);
  const all = [...trees, ...exact, ...elsewhere].reduce((sum, { uses }) => sum + uses.count, unlisted.count);
  t.equal(all, 3030, "each use is somewhere");
});

t.test("names that no request can say allow what holds them, but never a root", async (t) => {
  const learnt = learntOf(["/d/s/known"]);
  learnt.add("/d/s/\ufffd/x", false, false, "/bin/cat");
  learnt.add("/d/\ufffd", false, false, "/bin/cat");
  learnt.add("/d/\ufffd\u00e9", true, false, "/bin/cat");
  learnt.add(`/d/deep${"/x".repeat(3000)}`, true, false, "/bin/cat");
  const { trees, exact, unlisted } = learnt.folded(32);
  t.match(trees[1], { path: "/d/s", forced: "unsayable", uses: { count: 2 } });
  t.match(trees[0]?.path, /^\/d\/deep(\/x)+$/);
  t.same(paths(exact), ["/d/\ufffd\u00e9"]);
  t.equal(unlisted.count, 1);
  t.match(parseGuardFile(formatLesson(lessonOf(learnt))), [{ subject: [{ deny: ["/d"] }, {}, {}] }]);
});

t.test("whatever files, programs and paths are called, it is YAML that says the same, a comment a line", async (t) => {
  const names = [
    ..."\n \r \t \u0085 \u2028 \u202e \ufeff \u007f # : ' \" \\ * ? [ ] { } & ! | > % @ ` - ~ , = \u{1f600}".split(" "),
    ...[
      "a b",
      " a",
      "a ",
      "a: b",
      "a #b",
      "- a",
      "---",
      "...",
      "null",
      "\\n",
      "a\n# b",
      "a\n---\nkind: x",
      "\u0001\u001b[31m",
    ],
  ];
  const learnt = new Learnt(["/d"]);
  for (const name of names) learnt.add(`/d/${name}`, true, false, `/bin/${name}`);
  learnt.add("/d", true, true, "/bin/a\nb");
  learnt.add("/else\n- where", true, true, "x\ny");
  const lost = create(LostSchema, { cause: LostCause.QUEUE, count: 3n });
  const hostile = "/d: #\n\"'";
  const text = formatLesson(lessonOf(learnt, { paths: [hostile], lost: [lost] }));
  const [guard, ...others] = parseGuardFile(text);
  t.same(others, []);
  t.match(guard?.subject, [
    { deny: [hostile], event: ["exec"], exclude: [] },
    { deny: [hostile], event: ["open"], exclude: ["."] },
    { allow: names.map((name) => `/d/${name}`).sort() },
  ]);
  t.match(
    text,
    /^# 3 events lost: they came faster than they were taken here\. This guard may deny what was missed\.$/m,
  );
  t.match(text, /^# Denied, though it happened: open by another name, \/else\\x0a- where, once by x\\x0ay\.$/m);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  t.notMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u202e]/);
});

t.test("what is executed is said apart; a path that is a file isn't denied what happened to it", async (t) => {
  const roots = ["/bin/tool", "/d"];
  const open = learntOf(["/bin/tool", "/d/run", "/d/read"], roots);
  const exec = learntOf(["/d/run"], roots);
  const learnt = { open: open.folded(32), exec: exec.folded(32) };
  t.match(parseGuardFile(formatLesson(lessonOf(open, { paths: ["/link", "/d"], roots, learnt }))), [
    {
      mode: 1,
      subject: [
        { deny: ["/link"], event: ["exec"], recursive: true, scope: 1 },
        { deny: ["/d"], event: ["open", "exec"], recursive: true, scope: 1 },
        { allow: ["/bin/tool", "/d/read", "/d/run"], event: ["open"], exclude: ["*"], recursive: false, scope: 1 },
        { allow: ["/d/run"], event: ["exec"], exclude: ["*"], recursive: false, scope: 1 },
      ],
    },
  ]);
});

t.test("times to learn for", async (t) => {
  t.equal(parseDuration("90s"), 90_000);
  t.equal(parseDuration("7d"), 604_800_000);
  for (const wrong of ["", "0s", "10", "1.5m", "-1s", "8d", "1w", "1h30m"]) t.throws(() => parseDuration(wrong), wrong);
});
