/** The suite as a test: one assertion for each attempt, against nothing and against the daemon. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import t from "tap";
import { bypassMarkdown } from "./docs.js";
import {
  type Against,
  attemptProgram,
  listAttempts,
  longestWindows,
  places,
  type Result,
  runSuite,
  users,
  windowText,
} from "./suite.js";

/** Few, since `make test` is to take minutes: `make soak` tries each race 10,000 times and more. */
const iterations = { nothing: 300, janusd: 50 };

// Some minutes: thousands of runs, each with a guard of its own.
t.setTimeout(1_800_000);

t.test("the page about the suite is the suite's", async (t) => {
  t.equal(readFileSync(new URL("../../docs/bypass.md", import.meta.url), "utf8"), bypassMarkdown(listAttempts()));
});

t.test("an attempt by a name that isn't there is an error, not a success", async (t) => {
  t.throws(() =>
    execFileSync(attemptProgram(), ["outside", "no-such", "disk", "unprivileged", "1"], { stdio: "ignore" }),
  );
});

for (const against of ["nothing", "janusd"] satisfies Against[]) {
  t.test(`against ${against}`, async (t) => {
    const byAttempt = new Map<string, Result[]>();
    const report = (name: string) => {
      const wrong = (byAttempt.get(name) ?? [])
        .filter((result) => !result.ok)
        .map(({ place, who, expected, got }) => `${place} ${who}: expected ${expected}, got ${got}`);
      t.same(wrong, [], `${name}: ${(byAttempt.get(name) ?? []).length} runs`);
    };
    let last: string | undefined;
    for await (const result of runSuite({
      iterations: iterations[against],
      against: [against],
      as: users,
      only: [],
      places,
    })) {
      const { name } = result.attempt;
      if (last !== undefined && last !== name) report(last);
      last = name;
      byAttempt.set(name, [...(byAttempt.get(name) ?? []), result]);
    }
    if (last !== undefined) report(last);
    for (const [name, us] of longestWindows([...byAttempt.values()].flat())) t.comment(`${name}: ${windowText([us])}`);
    t.equal(byAttempt.size, listAttempts().length, "every attempt was tried");
  });
}
