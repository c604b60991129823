/** Whatever the log can print as JSON is what its schema says. */
import { closeSync, mkdtempSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { EVENT_KINDS, FLAG, RESPONSES } from "../../src/event/layout.js";
import { openLogSink } from "../../src/sink/log.js";
import { NO_DENIERS } from "../../src/subject.js";
import { workspaceDirectory } from "../support/cleanup.js";
import { schemaFaults } from "../support/log-schema.js";
import { type RecordFields, subjectOf, viewOf } from "../support/records.js";

const deniers = {
  others: [subjectOf({ guard: "second" }), subjectOf({ guard: "third", namespace: "", mode: "audit" })],
  cut: true,
};

async function lines(events: readonly RecordFields[]): Promise<string[]> {
  const file = join(mkdtempSync(join(workspaceDirectory(), "log-")), "log");
  const fd = openSync(file, "w");
  const sink = openLogSink({ format: "json", to: fd });
  for (const [index, fields] of events.entries()) {
    sink.write(viewOf(fields), subjectOf({ namespace: "" }), index % 2 === 0 ? NO_DENIERS : deniers);
  }
  await sink.close();
  closeSync(fd);
  return readFileSync(file, "utf8").split("\n").slice(0, -1);
}

t.test("every kind, response and flag", async (t) => {
  const events = EVENT_KINDS.flatMap((_, kind) =>
    RESPONSES.flatMap((_, response) =>
      [0, ...Object.values(FLAG)].map((flags): RecordFields => ({ kind, response, flags })),
    ),
  );
  const printed = await lines(events);
  t.equal(printed.length, events.length);
  t.same(printed.flatMap(schemaFaults), []);
  t.match(printed.join("\n"), /"response":"AUDIT".*"auditGuards":\["third"\]/);
});

t.test("extremes", async (t) => {
  const ancestor = { pid: 4_194_304, comm: 'a"b\\c', exe: "/\n" };
  const printed = await lines([
    { path: new Uint8Array([0x2f, 0xff, 0xfe]), comm: "\u007f", exe: "" },
    { startNs: 1_700_000_000_000_000_001n, ancestry: Array.from({ length: 16 }, () => ancestor), flags: FLAG.cut },
    { asked: new Uint8Array([0x2e, 0x2f, 0xff]), argv0: '"' },
    { kind: 13, path: "/a", other: new Uint8Array([0x2f, 0xff]) },
    { kind: 11, path: "/a", other: new Uint8Array([0x2f, 0xff]) },
    { uid: 0xffff_ffff, blockedNs: 0xffff_ffff, seq: 2n ** 53n - 1n, pid: 0, ppid: 0 },
  ]);
  t.same(printed.flatMap(schemaFaults), []);
  t.match(printed[0], /"pathBytes":/);
  t.notMatch(printed[0], /"asked"|"argv0"/, "not known");
  t.match(JSON.parse(printed[2] ?? ""), { asked: "./\ufffd", argv0: '"' });
});

t.test("what is not in the schema fails", async (t) => {
  const [line = ""] = await lines([{}]);
  const [extra, response] = [line.replace("{", '{"color":"red",'), line.replace("ALLOW", "PERHAPS")];
  t.match(schemaFaults(extra), [/must NOT have additional properties .*color/]);
  t.match(schemaFaults(response), [/^\/response must be equal to one of the allowed values/]);
  t.match(schemaFaults(line.replace('"path":', '"pathe":')).sort(), [
    /must NOT have additional/,
    /must have required property 'path'/,
  ]);
  t.match(schemaFaults(line.replace(/"tags":\{.*?\}/, '"tags":{"a":1}')), [/^\/tags\/a must be string/]);
  t.match(schemaFaults("[]"), [/must be object/]);
});
