import { readFileSync } from "node:fs";
import t from "tap";
import { assertLayout, EVENT_KINDS, FILE_EVENT, FLAG } from "../../src/event/layout.js";
import { EVENT_MASKS } from "../../src/guard/guard.js";
import { loadAddon } from "../../src/native.js";

const header = readFileSync(new URL("../../native/record/file_event.h", import.meta.url), "utf8");

/** `name = number` entries of a C++ enum. */
function enumOf(name: string, entry: RegExp): [string, number][] {
  const body = new RegExp(`enum (?:class )?${name}[^{]*\\{([^}]*)\\}`).exec(header)?.[1] ?? "";
  return [...body.matchAll(entry)].map(([, key = "", value]) => [key, Number(value)]);
}

t.test("the addon's struct FileEvent is the one that we read", (t) => {
  const { sizeof, ...offsets } = loadAddon().layout();
  t.strictSame({ sizeof, ...offsets }, { ...FILE_EVENT });
  assertLayout({ sizeof, ...offsets });
  t.end();
});

t.test("any other layout is refused, and the message says where", (t) => {
  t.throws(() => assertLayout({ ...FILE_EVENT, pid: 44 }), /\(pid: 44, expected 40\)/);
  const { comm, ...without } = FILE_EVENT;
  t.throws(() => assertLayout(without), new RegExp(`\\(comm: missing, expected ${comm}\\)`));
  t.throws(() => assertLayout({ ...FILE_EVENT, extra: 72 }), /\(extra: not known here\)/);
  t.end();
});

t.test("kinds and flags are those of native/record/file_event.h", (t) => {
  const kinds = enumOf("FileEventKind", /(\w+) = (\d+),/g).map(([name]) => (name === "remove" ? "delete" : name));
  t.strictSame([...EVENT_KINDS], kinds);
  const flags = enumOf("FileEventFlag", /kFlag(\w+) = (\d+),/g).map(([name, bit]) => [
    name.charAt(0).toLowerCase() + name.slice(1),
    bit,
  ]);
  t.strictSame({ ...FLAG }, Object.fromEntries(flags));
  t.end();
});

t.test("an event name that a guard asks for is the one that its events carry", (t) => {
  const bit = (name: (typeof EVENT_KINDS)[number]) => 1 << EVENT_KINDS.indexOf(name);
  for (const name of EVENT_KINDS) {
    // One event for both names, of who watches both.
    t.equal(EVENT_MASKS.get(name), name === "move" ? bit("movedfrom") | bit("movedto") : bit(name), name);
  }
  t.end();
});
