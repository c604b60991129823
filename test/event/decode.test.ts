import { Buffer } from "node:buffer";
import t from "tap";
import { FileEventView, MalformedBatchError } from "../../src/event/decode.js";
import { encodeRecord, viewOf } from "../support/records.js";

t.test("every field, at the ends of its range", (t) => {
  const view = viewOf({
    seq: 2n ** 53n - 1n,
    timeNs: 2n ** 64n - 1n,
    cgroupId: 2n ** 64n - 1n,
    subjectId: 2 ** 31 - 1,
    blockedNs: 2 ** 32 - 1,
    pid: 2 ** 31 - 1,
    ppid: 0,
    uid: 2 ** 32 - 1,
    kind: 12,
    response: 1,
    flags: 255,
    startNs: 1_795_440_636_123_456_789n,
    ancestry: [
      { pid: 2 ** 31 - 1, comm: "sh", exe: "/bin/bü" },
      { pid: 1, comm: "", exe: "" },
    ],
    comm: "sixteen-letters!",
    path: "/é",
    exe: "/bin/ü",
    asked: "./ö",
    argv0: "-ä",
    other: "/ñ",
    deniers: [9],
  });
  t.equal(view.seq, Number.MAX_SAFE_INTEGER);
  t.equal(view.time, "2554-07-21T23:34:33.709551615Z");
  t.equal(view.cgroupId, 2n ** 64n - 1n);
  t.equal(view.subjectId, 2 ** 31 - 1);
  t.equal(view.blockedNs, 2 ** 32 - 1);
  t.equal(view.pid, 2 ** 31 - 1);
  t.equal(view.ppid, 0);
  t.equal(view.uid, 2 ** 32 - 1);
  t.equal(view.kind, 12);
  t.equal(view.response, 1);
  t.equal(view.flags, 255);
  t.equal(view.start, "2026-11-23T13:30:36.123456789Z");
  t.strictSame(view.ancestry, [
    { pid: 2 ** 31 - 1, comm: "sh", exe: "/bin/bü" },
    { pid: 1, comm: "", exe: "" },
  ]);
  t.equal(view.isDirectory, true);
  t.equal(view.comm, "sixteen-letters!");
  t.equal(view.commText, "sixteen-letters!");
  t.equal(view.path, "/é");
  t.equal(view.pathIsUtf8, true);
  t.equal(view.exe, "/bin/ü");
  t.same([view.hasAsked, view.askedText, view.askedBytes.toString()], [true, "./ö", "./ö"]);
  t.same([view.hasArgv0, view.argv0Text, view.argv0Bytes.toString()], [true, "-ä", "-ä"]);
  t.same([view.hasOther, view.otherText, view.otherBytes.toString(), view.otherJson], [true, "/ñ", "/ñ", '"/ñ"']);
  t.same([view.otherIsUtf8, view.otherIsOld, viewOf({ kind: 11 }).otherIsOld], [true, false, true]);
  t.same([viewOf({}).hasOther, viewOf({ other: Buffer.from([0xff]) }).otherIsUtf8], [false, false]);
  t.same(view.denierIds, [9]);
  const { hasAsked, askedText, hasArgv0, argv0Text } = viewOf({});
  t.same([hasAsked, askedText, hasArgv0, argv0Text], [false, "", false, ""], "not known");
  t.end();
});

t.test("ancestry as text: no name forges a level, and what is left out shows", (t) => {
  const ancestry = [
    { pid: 7, comm: "a,1:init", exe: "/bin/a" },
    { pid: 1, comm: "b\n", exe: "" },
  ];
  t.equal(viewOf({ ancestry }).ancestryText, "7:a\\x2c1:init,1:b\\x0a");
  t.equal(viewOf({ ancestry, flags: 128 }).ancestryText, "7:a\\x2c1:init,1:b\\x0a,...");
  t.equal(viewOf({}).ancestryText, "");
  t.equal(viewOf({}).start, "", "not known");
  t.end();
});

t.test("other guards that deny: their subjects, after strings of any length", (t) => {
  const view = viewOf({
    path: "/abc",
    exe: "/b",
    ancestry: [{ pid: 1, comm: "i", exe: "" }],
    deniers: [7, 2 ** 32 - 1],
  });
  t.same([view.deniers, view.denierIds], [2, [7, 2 ** 32 - 1]]);
  t.same(view.ancestry, [{ pid: 1, comm: "i", exe: "" }]);
  t.same(viewOf({}).denierIds, []);
  t.end();
});

t.test("empty strings, and the longest", (t) => {
  const empty = viewOf({ path: "", exe: "", comm: "" });
  t.same([empty.path, empty.exe, empty.comm, empty.pathText], ["", "", "", ""]);
  const long = viewOf({ path: "p".repeat(65535), exe: "e".repeat(65535) });
  t.equal(long.path.length, 65535);
  t.equal(long.exe, "e".repeat(65535));
  t.end();
});

t.test("time is exact to the nanosecond", (t) => {
  const cases: [bigint, string][] = [
    [0n, "1970-01-01T00:00:00.000000000Z"],
    [999_999_999n, "1970-01-01T00:00:00.999999999Z"],
    [1_000_000_000n, "1970-01-01T00:00:01.000000000Z"],
    [2n ** 32n, "1970-01-01T00:00:04.294967296Z"],
    [1_795_440_636_123_456_789n, "2026-11-23T13:30:36.123456789Z"],
    [1_795_440_636_999_999_999n, "2026-11-23T13:30:36.999999999Z"],
  ];
  for (const [timeNs, text] of cases) t.equal(viewOf({ timeNs }).time, text);
  t.end();
});

t.test("bytes that are not UTF-8 are there as they were", (t) => {
  const path = Uint8Array.of(0x2f, 0xff, 0xfe);
  const view = viewOf({ path });
  t.equal(view.pathIsUtf8, false);
  t.same(view.pathBytes, Buffer.from(path));
  t.equal(view.path, "/\ufffd\ufffd");
  t.end();
});

t.test("steps from record to record, and starts over on the next batch", (t) => {
  const paths = ["/a", "/some/longer/path", "", "/d"];
  const batch = Buffer.concat(paths.map((path, index) => encodeRecord({ path, seq: BigInt(index + 1) })));
  const view = new FileEventView(batch.length);
  const read = () => {
    const seen: string[] = [];
    while (view.next()) seen.push(`${view.seq}${view.path}`);
    return seen;
  };
  batch.copy(view.bytes);
  view.reset(batch.length);
  t.same(read(), ["1/a", "2/some/longer/path", "3", "4/d"]);
  t.equal(view.next(), false, "stays at the end");
  view.reset(encodeRecord({ path: "/a" }).length);
  t.same(read(), ["1/a"]);
  view.reset(0);
  t.same(read(), []);
  t.end();
});

t.test("what is not a record is refused, and does not loop", (t) => {
  const record = encodeRecord({});
  const broken: [name: string, breakIt: (bytes: Buffer) => void, length?: number][] = [
    ["size 0", (bytes) => bytes.writeUInt32LE(0, 0)],
    ["size below the header", (bytes) => bytes.writeUInt32LE(64, 0)],
    ["size past the batch", (bytes) => bytes.writeUInt32LE(bytes.length + 8, 0)],
    ["size not aligned", (bytes) => bytes.writeUInt32LE(bytes.length - 4, 0)],
    ["strings past the record", (bytes) => bytes.writeUInt16LE(500, 4)],
    ["ancestry past the record", (bytes) => bytes.writeUInt16LE(500, 80)],
    ["asked past the record", (bytes) => bytes.writeUInt16LE(500, 84)],
    ["the other name past the record", (bytes) => bytes.writeUInt16LE(500, 88)],
    ["argv0 past the record", (bytes) => bytes.writeUInt16LE(500, 86)],
    ["cut short", () => undefined, 40],
  ];
  for (const [name, breakIt, length] of broken) {
    const view = new FileEventView(record.length);
    record.copy(view.bytes);
    breakIt(view.bytes);
    view.reset(length ?? record.length);
    t.throws(() => view.next(), MalformedBatchError, name);
    t.equal(view.next(), false, `${name}: nothing after it`);
  }
  t.end();
});
