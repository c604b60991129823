import t from "tap";
import { EventFilter, NO_FIELDS } from "../../src/event/filter.js";
import { Glob } from "../../src/event/glob.js";
import { NO_DENIERS } from "../../src/subject.js";
import { subjectOf, viewOf } from "../support/records.js";

function matches(path: string, include: readonly string[], exclude: readonly string[] = []): boolean {
  const fields = (globs: readonly string[]) => ({ ...NO_FIELDS, paths: globs.map((glob) => new Glob(glob)) });
  return new EventFilter(fields(include), fields(exclude)).matches(viewOf({ path }), subjectOf(), NO_DENIERS);
}

t.test("a path fits itself and what is below it", async (t) => {
  t.equal(matches("/data/a/b", ["/data/a"]), true);
  t.equal(matches("/data/ab", ["/data/a"]), false);
  t.equal(matches("/data/a/b", [], ["/data/a"]), false);
});

t.test("a path of which only the end is known may be any: it is shown, and not left out", async (t) => {
  t.equal(matches(".../a/b", ["/data"]), true);
  t.equal(matches(".../a/b", [], ["/data", ".../a"]), true);
  t.equal(matches("/.../a/b", ["/data"]), false, "a directory may have that name");
});
