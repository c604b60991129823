/** The rules of native/policy/glob.h, by the cases of its test. */
import { Buffer } from "node:buffer";
import t from "tap";
import { Glob } from "../../src/event/glob.js";

const covers = (pattern: string, path: string | Uint8Array): boolean => new Glob(pattern).covers(Buffer.from(path));

const cases: readonly (readonly [pattern: string, path: string, covers: boolean])[] = [
  ["/etc", "/etc", true],
  ["/etc", "/etc/deep/file", true],
  ["/etc", "/etcetera", false],
  ["cache", "a/cache", false],
  ["**/cache", "a/b/cache/x", true],
  ["**/cache", "/cache", true],
  ["**/cache", "cache", true],
  ["**/cache", "a/mycache", false],
  ["/**", "/", true],
  ["/**", "/a/b", true],
  ["*.log", "x.log", true],
  ["*.log", "a/x.log", false],
  ["**.log", "a/b/x.log", true],
  ["a/**/z", "a/b/c/z", true],
  ["a/**/z", "a/z", true],
  ["a/*/z", "a/b/c/z", false],
  ["a/*/z", "a/b/z/y", true],
  ["a?c", "abc", true],
  ["a?c", "a/c", false],
  ["[a-c]x", "bx", true],
  ["[a-c]x", "dx", false],
  ["[!a-c]x", "bx", false],
  ["[^a-c]x", "dx", true],
  ["[!a]", "/", false],
  ["[]]", "]", true],
  ["[]-a]", "^", true],
  ["[a-]", "-", true],
  ["[x", "[x", true],
  ["\\*", "*", true],
  ["\\*", "x", false],
  ["a\\", "a\\", true],
  ["", "x", false],
  ["/ä?", "/äb", true],
  ["*a*a*a*a*a*a*a*a*a*a*b", "a".repeat(50), false],
];

t.test("what a pattern covers", async (t) => {
  for (const [pattern, path, expected] of cases) t.equal(covers(pattern, path), expected, `${pattern} on ${path}`);
  t.ok(covers("/*", Buffer.from([0x2f, 0xff, 0x0a])), "names are bytes");
});

/** By the definition: tries all that each star may stand for. Knows no sets. */
function reference(pattern: string, path: string): boolean {
  const source = (p: number, whole: boolean): string => {
    if (p === pattern.length) return "";
    const here = pattern.slice(p);
    if (here.startsWith("**/") && whole) return `(?:[^]*/)?${source(p + 3, true)}`;
    if (here.startsWith("**")) return `[^]*${source(p + 2, false)}`;
    const [character = ""] = here;
    if (character === "*") return `[^/]*${source(p + 1, false)}`;
    return `${character.replace(".", "\\.")}${source(p + 1, character === "/")}`;
  };
  return new RegExp(`^${source(0, true)}(?:/[^]*)?$`).test(path);
}

t.test("short patterns and paths, in which everything happens often, as a regular expression has it", async (t) => {
  let seed = 7;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return Math.floor((seed / 2 ** 31) * below);
  };
  const wrong: string[] = [];
  let covered = 0;
  for (let round = 0; round < 20_000; round++) {
    const pattern = Array.from({ length: 1 + random(8) }, () => "aab/**/."[random(8)]).join("");
    const name = () => Array.from({ length: 1 + random(3) }, () => "ab"[random(2)]).join("");
    const path = Array.from({ length: 1 + random(5) }, name).join("/");
    // `***` is read as `**` and `*`; a star that a regular expression joins differently says nothing.
    if (/\*\*\*|\*\*\/.*\*|\*.*\*\*/.test(pattern)) continue;
    const expected = reference(pattern, path);
    covered += expected ? 1 : 0;
    if (covers(pattern, path) !== expected) wrong.push(`${pattern} on ${path}`);
  }
  t.same(wrong, []);
  t.ok(covered > 500, `${covered} were covered`);
});

t.test("a million components are one pass", { timeout: 20_000 }, async (t) => {
  const deep = Buffer.from(`${"a/".repeat(1_000_000)}f`);
  for (const pattern of ["**/*.log", "**/cache/**", "**.log", "**/a/a/a/a/b", "**/*/*/*/b", "*/**/*a*/b", "a/**/[g-z]"])
    t.notOk(new Glob(pattern).covers(deep), pattern);
});
