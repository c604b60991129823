import { create } from "@bufbuild/protobuf";
import t from "tap";
import { JanusdConfigSchema, Scope } from "../../src/gen/janus_pb.js";
import { GuardFileError, type GuardFileProblem, parseGuardFile } from "../../src/guard/file.js";

const id = "a".repeat(64);
const head = "apiVersion: januscontroller.clustergarage.io/v1alpha1\nkind: JanusGuard\n";
const minimal = `${head}metadata: { name: g }\nspec:\n  containers: [web]\n  subjects: [{ deny: [/a], events: [open] }]\n`;

function problems(text: string): readonly GuardFileProblem[] {
  try {
    parseGuardFile(text, "guards.yaml");
  } catch (error) {
    if (error instanceof GuardFileError) return error.problems;
    throw error;
  }
  return [];
}

t.test("a resource with everything", async (t) => {
  const text = `${head}metadata: { name: g, namespace: ns, labels: { a: b } }
spec:
  podName: pod
  podUid: uid
  nodeName: node
  logFormat: "{path}"
  containers:
    - containerd://${id}
    - { id: other, name: web }
  subjects:
    - allow: [/a]
      deny: [/b]
      exclude: ["*.x"]
      events: [open, access]
      onlyDir: true
      autoAllowOwner: true
      audit: true
      recursive: true
      maxDepth: 3
      scope: container
      exact: true
      tags: { team: "1" }
    - { watch: [/w], events: [modify] }
status: { guardedPods: 1 }
`;
  t.same(parseGuardFile(text), [
    create(JanusdConfigSchema, {
      ...{ name: "g", namespace: "ns", podName: "pod", podUid: "uid", nodeName: "node", logFormat: "{path}" },
      cid: [`containerd://${id}`, "other"],
      containerNames: { other: "web" },
      subject: [
        {
          ...{ allow: ["/a"], deny: ["/b"], exclude: ["*.x"], event: ["open", "access"], tags: { team: "1" } },
          ...{ onlyDir: true, autoAllowOwner: true, audit: true, recursive: true, maxDepth: 3, exact: true },
          scope: Scope.CONTAINER,
        },
        { watch: ["/w"], event: ["modify"] },
      ],
    }),
  ]);
});

t.test("several documents, empty ones among them", async (t) => {
  const text = `---\n${minimal}---\n---\n# nothing\n---\n${minimal.replace("name: g", "name: h")}`;
  t.same(
    parseGuardFile(text).map(({ name }) => name),
    ["g", "h"],
  );
  t.same(parseGuardFile(""), []);
});

t.test("each fault names file, line, document and field", async (t) => {
  const bad = `${head}metadata: { name: h }
spec:
  containers: [web]
  subjects:
    - deny:
        - /ok
        - relative
      events: [open, OPEN]
      recursive: yes please
      depth: 3
`;
  const found = problems(`${minimal}---\n${bad}`);
  t.match(found, [
    { line: 18, document: 2, field: "spec.subjects[0].recursive", description: "must be true or false" },
    { line: 19, document: 2, field: "spec.subjects[0].depth", description: /unknown field; known are .*maxDepth/ },
  ]);
  t.match(problems(bad.replace(/ {6}(recursive|depth).*\n/g, "")), [
    { line: 9, document: 1, field: "spec.subjects[0].deny[1]" },
    { line: 10, document: 1, field: "spec.subjects[0].events[1]" },
  ]);
  t.throws(() => parseGuardFile(`${minimal}---\n${bad}`, "guards.yaml"), {
    message: /^guards\.yaml:18: document 2: spec\.subjects\[0\]\.recursive: must be true or false\n/,
  });
});

t.test("what is refused", async (t) => {
  const changed = (from: string | RegExp, to: string) => problems(minimal.replace(from, to));
  t.match(changed("v1alpha1", "v1"), [{ line: 1, field: "apiVersion" }]);
  t.match(changed("kind: JanusGuard", "kind: Pod"), [{ line: 2, field: "kind" }]);
  t.match(changed("{ name: g }", "{}"), [{ line: 3, field: "metadata.name" }]);
  t.match(changed("{ name: g }", "{ name: 7 }"), [{ field: "metadata.name", description: "must be a string" }]);
  t.match(changed("[web]", "[]"), [{ line: 5, field: "spec.containers" }]);
  t.match(changed("[web]", "[web, 'containerd://*']"), [{ line: 5, field: "spec.containers[1]" }]);
  t.match(changed("[web]", "[{ id: 'a/b', name: x }]"), [{ field: "spec.containers[0]" }]);
  t.match(changed("[web]", "[7]"), [{ field: "spec.containers[0]", description: "must be a mapping" }]);
  t.match(changed("containers: [web]", "selector: { app: web }"), [
    { field: "spec.selector", description: /Kubernetes/ },
  ]);
  t.match(changed("[/a]", "/a"), [{ line: 6, field: "spec.subjects[0].deny", description: "must be a list" }]);
  t.match(changed("[/a]", "[7]"), [{ field: "spec.subjects[0].deny[0]", description: /quote/ }]);
  t.match(changed("events: [open]", "events: [open], scope: toString"), [{ field: "spec.subjects[0].scope" }]);
  t.match(changed("events: [open]", "events: [open], maxDepth: 1.5"), [{ field: "spec.subjects[0].maxDepth" }]);
  t.match(changed("events: [open]", "events: [open], tags: { a: 1 }"), [{ field: "spec.subjects[0].tags.a" }]);
  t.match(problems(`${minimal}  logFormat: "{"\n`), [{ line: 7, field: "spec.logFormat" }]);
  t.match(problems(`${minimal}  mode: Audit\n`), [
    { line: 7, field: "spec.mode", description: "must be enforce or audit" },
  ]);
  t.match(problems(`${minimal}  mode: [audit]\n`), [{ line: 7, field: "spec.mode", description: "must be a string" }]);
  t.match(problems(`${minimal}---\n${minimal}`), [{ document: 2, line: 10, field: "metadata.name" }]);
  t.match(problems("- a\n"), [{ line: 1, field: "", description: "must be a mapping" }]);
  t.match(problems(`${minimal}---\na: [\n`), [{ document: 2, line: 9, field: "" }]);
  t.match(problems(`${minimal}  podName: a\n  podName: b\n`), [{ line: 8, description: /unique/ }]);
});
