/** `janusctl explain` against every path that the bypass suite opens: what it says is what came of the open. */
import t from "tap";
import { listAttempts, runSuite } from "./suite.js";

t.setTimeout(600_000);

/** Of a race only a moment could be explained that has passed. */
const families = ["names", "links", "mounts", "namespaces", "descriptors", "volumes"];

t.test("each open comes out as it is explained", async (t) => {
  const wrong: string[] = [];
  const compared = new Map<string, number>();
  for await (const { attempt, place, explained } of runSuite({
    iterations: 1,
    against: ["janusd"],
    as: ["unprivileged"],
    only: families,
    // Between them they have every attempt.
    places: ["image", "disk"],
    explained: true,
  })) {
    for (const name of [attempt.family, attempt.name])
      compared.set(name, (compared.get(name) ?? 0) + explained.compared);
    for (const line of explained.wrong) wrong.push(`${attempt.name} (${place}): ${line}`);
  }
  t.same(wrong, []);
  for (const family of families) t.ok(compared.get(family), `${family}: ${compared.get(family)} opens`);
  // The others open by descriptors, too, or in mounts of their own.
  const byPath = listAttempts().filter(({ family }) => family === "names" || family === "links");
  t.same(
    byPath.filter(({ name }) => !compared.get(name)).map(({ name }) => name),
    [],
  );
});
