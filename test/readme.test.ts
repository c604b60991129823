/** What the documents show works: their guards are ones, and their links lead somewhere. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import t from "tap";
import { parse } from "yaml";
import { parseGuardFile } from "../src/guard/file.js";
import { type ApiObject, readResource } from "../src/kubernetes/resource.js";

const root = new URL("../", import.meta.url);
const DOCUMENTS = [
  "README.md",
  "CHANGELOG.md",
  "bench/README.md",
  "test/kernels/README.md",
  ...readdirSync(new URL("docs", root), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

const text = (file: URL): string => readFileSync(file, "utf8");

/** As GitHub names the headings of a document. */
function anchors(document: string): string[] {
  const headings = [...document.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => heading.toLowerCase());
  return headings.map((heading) => heading.replace(/[^\w\- ]/g, "").replaceAll(" ", "-"));
}

t.test("every guard that is shown is a guard", async (t) => {
  for (const name of ["README.md", "docs/configuration.md"]) {
    const shown = [...text(new URL(name, root)).matchAll(/^```yaml\n(.*?)^```$/gms)];
    t.not(shown.length, 0, name);
    for (const [, guard = ""] of shown) {
      const resource: ApiObject & { readonly spec: object } = parse(guard);
      // By its selector it is the cluster's, else it is a guard file's.
      if ("selector" in resource.spec) t.same(readResource("JanusGuard", resource).faults, [], name);
      else t.equal(parseGuardFile(guard, name).length, 1, name);
    }
  }
});

t.test("prose is at most 100 characters wide", (t) => {
  for (const name of DOCUMENTS) {
    // Neither code, nor tables, nor what begins with a link that is wider by itself.
    const prose = text(new URL(name, root)).replace(/^( *)```.*?^\1```$/gms, "");
    const wide = prose.split("\n").filter((line) => line.length > 100 && !/^( *\|| {4}|<|\[[^\]]*\]:)/.test(line));
    t.same(wide, [], name);
  }
  t.end();
});

t.test("every link leads somewhere", async (t) => {
  for (const name of DOCUMENTS) {
    const here = new URL(name, root);
    for (const [, target = ""] of text(here).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (target.startsWith("https://")) continue;
      const there = new URL(target, here);
      const heading = there.hash.slice(1);
      there.hash = "";
      t.ok(existsSync(there), `${name}: ${target}`);
      if (heading !== "") t.ok(anchors(text(there)).includes(heading), `${name}: ${target}`);
    }
  }
});
