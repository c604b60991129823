import { create, type MessageInitShape } from "@bufbuild/protobuf";
import t from "tap";
import { JanusdConfigSchema, type JanusGuardSubjectSchema } from "../../src/gen/janus_pb.js";
import { type SubjectNote, warningsOf } from "../../src/guard/warnings.js";

type Subject = MessageInitShape<typeof JanusGuardSubjectSchema>;

const guard = (...subject: readonly Subject[]) => create(JanusdConfigSchema, { name: "g", subject: [...subject] });
const fields = (warnings: ReturnType<typeof warningsOf>) => warnings.map(({ field }) => field);

function note(
  path: string,
  about: Partial<SubjectNote["note"]> = {},
  container = "web",
  subjectIndex = 0,
): SubjectNote {
  const plain = { subjectId: 1, missing: false, program: "", names: 0, fault: "" };
  return { note: { ...plain, path, ...about }, subjectIndex, container };
}

t.test("what says what it means is not warned of", async (t) => {
  const config = guard({
    deny: ["/etc/app", "/"],
    allow: ["/etc/app/x"],
    watch: ["/a b"],
    event: ["open"],
    recursive: true,
  });
  t.same(warningsOf(config), []);
  t.same(warningsOf(config, { notes: [], containers: 1 }), []);
});

t.test("patterns and trailing white space, where nothing of that name is there", async (t) => {
  const config = guard({ deny: ["/ok"] }, { deny: ["/etc/app/*", "/a?"], allow: ["/b "], watch: ["/[ab]c", "/d\n"] });
  const all = [
    "subject[1].deny[0]",
    "subject[1].deny[1]",
    "subject[1].allow[0]",
    "subject[1].watch[0]",
    "subject[1].watch[1]",
  ];
  t.same(fields(warningsOf(config)), all);
  t.match(warningsOf(config), [
    { description: /^\* is part of the name here/ },
    { description: /^\? is part/ },
    { description: /^ends with white space/ },
    { description: /^\[ is part/ },
    { description: /^ends with white space/ },
  ]);
  t.same(warningsOf(config, { notes: [], containers: 1 }), [], "they are there");
  const notes = [note("/b ", { missing: true }, "web", 1)];
  t.same(fields(warningsOf(config, { notes, containers: 1 })), ["subject[1].allow[0]", "subject[1].allow[0]"]);
});

t.test("no such path yet: in all containers, or in which", async (t) => {
  const config = guard({ deny: ["/etc//typo/"] });
  const [one, two] = [note("/etc/typo", { missing: true }), note("/etc/typo", { missing: true }, "side")];
  t.match(warningsOf(config, { notes: [one, two], containers: 2 }), [
    { field: "subject[0].deny[0]", description: /^no such path yet: it is guarded/ },
  ]);
  t.match(warningsOf(config, { notes: [two], containers: 2 }), [{ description: /^no such path yet in side: / }]);
});

t.test("everything denied", async (t) => {
  const everything = { deny: ["/x", "//"], event: ["write", "open"], recursive: true };
  t.match(warningsOf(guard(everything)), [{ field: "subject[0].deny[1]", description: /^denies every file/ }]);
  t.same(warningsOf(guard({ ...everything, allow: ["/bin"] })), []);
  t.same(warningsOf(guard({ ...everything, maxDepth: 1 })), []);
  t.same(
    warningsOf(guard({ ...everything, event: ["write", "create"] })),
    [],
    "what only may change nothing still runs",
  );
  t.same(warningsOf(guard({ deny: ["/"] })), []);
  t.same(warningsOf(guard({ watch: ["/"], recursive: true })), []);
});

t.test("a program of many names", async (t) => {
  const config = guard({ deny: ["/bin/wget", "/usr/bin/vi", "/bin/busybox", "/bin/true"] });
  const notes = [
    note("/bin/wget", { program: "/bin/busybox", names: 1 }),
    note("/bin/wget", { program: "/bin/busybox", names: 1 }, "side"),
    note("/usr/bin/vi", { program: "/usr/bin/vim.basic", names: 1 }),
    note("/bin/busybox", { program: "/usr/bin/busybox", names: 1 }),
    note("/bin/true", { program: "/bin/true", names: 300 }),
  ];
  t.match(warningsOf(config, { notes, containers: 2 }), [
    { field: "subject[0].deny[0]", description: "is a link to /bin/busybox: that is denied, by all of its names" },
    { field: "subject[0].deny[3]", description: /^is one of 300 names of one program/ },
  ]);
});
