import t from "tap";
import { fieldOf } from "../../src/guard/document.js";
import { type Labels, readSelector } from "../../src/kubernetes/selector.js";

function read(content: unknown) {
  const refused: string[] = [];
  const selector = readSelector(content, ["spec", "selector"], (path, description) => {
    refused.push(`${fieldOf(path)}: ${description}`);
  });
  return { selector, refused };
}

const cases: readonly [selector: unknown, labels: Labels, selected: boolean][] = [
  [{}, {}, true],
  [{}, { app: "web" }, true],
  [{ matchLabels: {} }, {}, true],
  [{ matchLabels: { app: "web" } }, { app: "web", tier: "front" }, true],
  [{ matchLabels: { app: "web" } }, { app: "db" }, false],
  [{ matchLabels: { app: "web" } }, {}, false],
  [{ matchLabels: { app: "" } }, {}, false],
  [{ matchLabels: { app: "" } }, { app: "" }, true],
  [{ matchLabels: { app: "web", tier: "front" } }, { app: "web" }, false],
  [{ matchExpressions: [{ key: "app", operator: "In", values: ["a", "b"] }] }, { app: "b" }, true],
  [{ matchExpressions: [{ key: "app", operator: "In", values: ["a", "b"] }] }, { app: "c" }, false],
  [{ matchExpressions: [{ key: "app", operator: "In", values: ["a"] }] }, {}, false],
  [{ matchExpressions: [{ key: "app", operator: "NotIn", values: ["a"] }] }, { app: "a" }, false],
  [{ matchExpressions: [{ key: "app", operator: "NotIn", values: ["a"] }] }, { app: "b" }, true],
  [{ matchExpressions: [{ key: "app", operator: "NotIn", values: ["a"] }] }, {}, true],
  [{ matchExpressions: [{ key: "app", operator: "Exists" }] }, { app: "" }, true],
  [{ matchExpressions: [{ key: "app", operator: "Exists" }] }, {}, false],
  [{ matchExpressions: [{ key: "app", operator: "DoesNotExist", values: [] }] }, {}, true],
  [{ matchExpressions: [{ key: "app", operator: "DoesNotExist" }] }, { app: "a" }, false],
  [{ matchExpressions: [{ key: "toString", operator: "Exists" }] }, {}, false],
  [{ matchLabels: { "app.kubernetes.io/name": "web" } }, { "app.kubernetes.io/name": "web" }, true],
  [
    { matchLabels: { app: "web" }, matchExpressions: [{ key: "tier", operator: "Exists" }] },
    { app: "web", tier: "x" },
    true,
  ],
  [{ matchLabels: { app: "web" }, matchExpressions: [{ key: "tier", operator: "Exists" }] }, { app: "web" }, false],
];

t.test("as Kubernetes selects", async (t) => {
  for (const [content, labels, selected] of cases) {
    const { selector, refused } = read(content);
    t.same(refused, [], JSON.stringify(content));
    t.equal(selector(labels), selected, `${JSON.stringify(content)} on ${JSON.stringify(labels)}`);
  }
});

const refusals: readonly [selector: unknown, said: string][] = [
  ["app=web", "spec.selector: must be a mapping"],
  [{ matchLabel: {} }, "spec.selector.matchLabel: unknown field; known are matchLabels, matchExpressions"],
  [{ matchLabels: { app: 1 } }, "spec.selector.matchLabels.app: must be a string; quote it"],
  [{ matchLabels: { "a b": "x" } }, 'spec.selector.matchLabels.a b: "a b" cannot be a label\'s key'],
  [{ matchLabels: { "/a": "x" } }, 'spec.selector.matchLabels./a: "/a" cannot be a label\'s key'],
  [{ matchLabels: { app: "a b" } }, 'spec.selector.matchLabels.app: "a b" cannot be a label\'s value'],
  [
    { matchExpressions: [{ key: "app", operator: "Is" }] },
    "spec.selector.matchExpressions[0].operator: must be one of In, NotIn, Exists, DoesNotExist",
  ],
  [
    { matchExpressions: [{ key: "app", operator: "In" }] },
    "spec.selector.matchExpressions[0].values: must not be empty with In",
  ],
  [
    { matchExpressions: [{ key: "app", operator: "Exists", values: ["a"] }] },
    "spec.selector.matchExpressions[0].values: must be empty with Exists",
  ],
  [
    { matchExpressions: [{ key: "", operator: "Exists" }] },
    'spec.selector.matchExpressions[0].key: "" cannot be a label\'s key',
  ],
];

t.test("what no pod can be selected by is refused, with its field", async (t) => {
  for (const [content, said] of refusals) t.same(read(content).refused, [said]);
});
