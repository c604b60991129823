import t from "tap";
import { FLAG } from "../src/event/layout.js";
import { compileLogFormat, DEFAULT_LOG_FORMAT, LOG_FORMAT_SPECIFIERS, LogFormatError } from "../src/log-format.js";
import { type Deniers, NO_DENIERS, type SubjectContext } from "../src/subject.js";
import { type RecordFields, subjectOf, viewOf } from "./support/records.js";

function render(
  format: string,
  fields: RecordFields = {},
  subject: Partial<SubjectContext> = {},
  deniers: Deniers = NO_DENIERS,
): string {
  return compileLogFormat(format).render(viewOf(fields), subjectOf(subject), deniers);
}

t.test("the default format is the original's, to the letter", (t) => {
  t.equal(
    render(DEFAULT_LOG_FORMAT, { kind: 1, path: "/path/to/file.ext" }),
    "<ALLOW> ACCESS_PERM file '/path/to/file.ext' (foo-1-pod:barnode) foo=bar",
  );
  t.equal(
    render(
      DEFAULT_LOG_FORMAT,
      { kind: 0, response: 1, flags: FLAG.answered | FLAG.directory, path: "/etc" },
      { tags: {} },
    ),
    "<DENY> OPEN_PERM directory '/etc' (foo-1-pod:barnode) ",
  );
  t.end();
});

t.test("every specifier", (t) => {
  const fields: RecordFields = {
    seq: 2n ** 40n + 7n,
    timeNs: 1_700_000_000_000_000_009n,
    pid: 12,
    startNs: 1_000_000_007n,
    ppid: 11,
    uid: 4_000_000_000,
    comm: "sh",
    exe: "/bin/sh",
    asked: "./a\n",
    argv0: "-sh",
    other: "/b",
    ancestry: [
      { pid: 11, comm: "bash", exe: "/bin/bash" },
      { pid: 1, comm: "init", exe: "/init" },
    ],
    flags: FLAG.inside,
    path: "/a",
  };
  const expected: Record<string, string> = {
    pod: "foo-1-pod",
    node: "barnode",
    response: "ALLOW",
    event: "OPEN_PERM",
    path: "/a",
    oldPath: "/a",
    newPath: "/b",
    ftype: "file",
    tags: "foo=bar",
    name: "passwords",
    namespace: "default",
    container: "c".repeat(64),
    guards: "default/passwords",
    pid: "12",
    start: "1970-01-01T00:00:01.000000007Z",
    ppid: "11",
    uid: "4000000000",
    comm: "sh",
    exe: "/bin/sh",
    asked: "./a\\x0a",
    argv0: "-sh",
    ancestry: "11:bash,1:init",
    inside: "true",
    time: "2023-11-14T22:13:20.000000009Z",
    seq: "1099511627783",
  };
  t.same([...LOG_FORMAT_SPECIFIERS].sort(), Object.keys(expected).sort());
  for (const [specifier, text] of Object.entries(expected))
    t.equal(render(`[{${specifier}}]`, fields), `[${text}]`, specifier);
  t.end();
});

t.test("permission names for what allow and deny paths judge, plain names for all else", (t) => {
  const names = (flags: number) => Array.from({ length: 17 }, (_, kind) => render("{event}", { kind, flags }));
  const others = [
    "MODIFY",
    "CLOSE_WRITE",
    "CLOSE_NOWRITE",
    "ATTRIB",
    "CREATE",
    "DELETE",
    "DELETE_SELF",
    "MOVED_FROM",
    "MOVED_TO",
    "MOVE_SELF",
    "MOVE",
    "LINK",
    "TRUNCATE",
    "WRITE",
  ];
  t.same(names(FLAG.answered), ["OPEN_PERM", "ACCESS_PERM", "OPEN_EXEC_PERM", ...others]);
  t.same(names(0), ["OPEN_PERM", "ACCESS_PERM", "OPEN_EXEC_PERM", ...others], "also where no answer was needed");
  t.same(names(FLAG.watched), ["OPEN", "ACCESS", "OPEN_EXEC", ...others]);
  t.equal(render("{event}", { kind: 200 }), "UNKNOWN_200");
  t.end();
});

t.test("what became of it", (t) => {
  const names = [0, 1, 2, 3].map((response) => render("{response}", { response }));
  t.same(names, ["ALLOW", "DENY", "AUDIT", "UNKNOWN_3"]);
  t.end();
});

t.test("tags are sorted and comma-separated", (t) => {
  t.equal(render("{tags}", {}, { tags: { b: "2", a: "1", c: "" } }), "a=1,b=2,c=");
  t.end();
});

t.test("braces, literals and neighbours", (t) => {
  t.equal(render("{{{path}}} {{}} 100% \\n", { path: "/a" }), "{/a} {} 100% \\n");
  t.equal(render("{pod}{node}{path}{path}{pod}", { path: "/a" }), "foo-1-podbarnode/a/afoo-1-pod");
  t.equal(render("no specifier"), "no specifier");
  t.equal(render(""), "");
  t.end();
});

t.test("{guards}: all that deny, the one whose line it is first; none forges another", (t) => {
  const others = [subjectOf({ guard: "keys" }), subjectOf({ namespace: "", guard: "a, b\n'" })];
  const line = (deniers: Deniers) => render("{guards} {name}", { response: 1 }, {}, deniers);
  t.equal(line(NO_DENIERS), "default/passwords passwords");
  t.equal(line({ others, cut: false }), "default/passwords, default/keys, a\\x2c b\\x0a\\x27 passwords");
  t.equal(line({ others: [], cut: true }), "default/passwords, ... passwords");
  const auditing = [subjectOf({ guard: "keys", mode: "audit" })];
  t.equal(line({ others: auditing, cut: false }), "default/passwords, default/keys (audit) passwords");
  t.end();
});

t.test("one format serves many subjects", (t) => {
  const format = compileLogFormat("{pod} {path}");
  const [one, two] = [subjectOf({ pod: "one" }), subjectOf({ pod: "two" })];
  const lines = [one, two, two, one].map((subject) => format.render(viewOf({ path: "/a" }), subject, NO_DENIERS));
  t.same(lines, ["one /a", "two /a", "two /a", "one /a"]);
  t.end();
});

t.test("a malformed format is refused, with the position of the fault", (t) => {
  const faults: [format: string, position: number, message: RegExp][] = [
    ["{path", 0, /never closed/],
    ["{pod} {path", 6, /never closed/],
    ["a } b", 2, /without '\{'/],
    ["{path}}", 6, /without '\{'/],
    ["<{response}> {Path}", 13, /unknown specifier "Path"; known are .*path/],
    ["{}", 0, /unknown specifier ""/],
    ["{{{pod", 2, /never closed/],
    ["{foo{pod}", 0, /unknown specifier "foo\{pod"/],
    ["{path:>10}", 0, /unknown specifier "path:>10"/],
  ];
  for (const [format, position, message] of faults) {
    t.throws(() => compileLogFormat(format), { name: "LogFormatError", position, message }, format);
  }
  t.throws(() => compileLogFormat("{"), LogFormatError);
  t.end();
});

t.test("no name forges a line or hides its bytes", (t) => {
  const cases: [path: string | Uint8Array, text: string][] = [
    ["/a\n<ALLOW> OPEN_PERM file '/b'", "/a\\x0a<ALLOW> OPEN_PERM file \\x27/b\\x27"],
    ["/x' (victim:node7) team=a", "/x\\x27 (victim:node7) team=a"],
    ["/\r\t\0\x1b[2J\x7f", "/\\x0d\\x09\\x00\\x1b[2J\\x7f"],
    ["/back\\slash", "/back\\x5cslash"],
    ["/c1\u0085\u009b", "/c1\\xc2\\x85\\xc2\\x9b"],
    ["/line\u2028para\u2029", "/line\\xe2\\x80\\xa8para\\xe2\\x80\\xa9"],
    ["/txt.\u202eexe", "/txt.\\xe2\\x80\\xaeexe"],
    ["/grün/日本/🐚", "/grün/日本/🐚"],
    [Uint8Array.of(0x2f, 0xff, 0x61, 0xc3, 0xbc, 0xc3), "/\\xffaü\\xc3"],
    [Uint8Array.of(0x2f, 0xed, 0xa0, 0x80, 0xf0, 0x9f, 0x90, 0x9a, 0x0a), "/\\xed\\xa0\\x80🐚\\x0a"],
    [Uint8Array.of(0x2f, 0xc0, 0xaf, 0xe6, 0x97), "/\\xc0\\xaf\\xe6\\x97"],
    ["", ""],
  ];
  for (const [path, text] of cases) t.equal(render("{path}", { path }), text, JSON.stringify(text));
  t.equal(render("{comm} {exe}", { comm: "a\nb", exe: "/x\ny" }), "a\\x0ab /x\\x0ay");
  t.equal(render("{pod} {tags}", {}, { pod: "p\n", tags: { k: "v\u202e\\" } }), "p\\x0a k=v\\xe2\\x80\\xae\\x5c");
  t.end();
});

t.test("no line is longer than what a container runtime takes, and what was left out is marked", (t) => {
  const format = "<{response}> '{path}' {exe} ({pod}) {tags}";
  for (const unit of ["/aaaaaaaaa", "/日本", "/'", "/\u0001", "/🐚"]) {
    const long = unit.repeat(6000);
    const line = render(format, { path: long, exe: long });
    t.ok(Buffer.byteLength(line) < 16_384, `${Buffer.byteLength(line)} bytes`);
    t.match(line, /^<[A-Z]+> '.+\\\.\.\..+' .+\\\.\.\..+ \(.*\) /s, "all fields are there");
    t.notMatch(line, "\ufffd", "no character is cut in two");
  }
  for (let more = 0; more < 8; more++) {
    const line = render("{path}", { path: `/${"a".repeat(more)}${"/'".repeat(6000)}${"b".repeat(more)}` });
    t.match(line, /^\/a*(\/\\x27)*\/?\\\.\.\.\/?(\\x27\/?)*b*$/, `no escape is cut in two: ${more}`);
  }
  const fits = render("{path}", { path: `/${"a".repeat(16_000)}` });
  t.equal(fits.length, 16_001, "what fits is left alone");
  t.end();
});
