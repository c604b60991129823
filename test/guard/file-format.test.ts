/** What is written is read as the same guard. */
import { create, type DescField, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import t from "tap";
import { JanusdConfigSchema, JanusGuardSubjectSchema, Scope } from "../../src/gen/janus_pb.js";
import { parseGuardFile } from "../../src/guard/file.js";
import { formatResources, resourceOf } from "../../src/guard/file-format.js";

type Init = MessageInitShape<typeof JanusdConfigSchema>;

const id = "a".repeat(64);
const subject = { deny: ["/a"], event: ["open"] };
const minimal: Init = { name: "g", cid: [id], subject: [subject] };

/** Text that YAML would take for something else, or break. */
const TEXTS = [
  ..."~ null Null true yes no on 0 0x10 1e3 .inf 2026-01-01 1:30 = << --- ... - ? : # & * ! | > % @ ` , [] {}".split(
    " ",
  ),
  ...[
    "- a",
    "a: b",
    "a #b",
    " a",
    "a ",
    "a\tb",
    "'",
    '"',
    "it's",
    '"x"',
    "\\",
    "\\n",
    "é",
    "\u{1f512}",
    "\u2028",
    "\u202e",
  ],
  ...[
    "x".repeat(200),
    `${"word ".repeat(40)}.`,
    "\ufeff",
    "\u0085",
    "$(x)",
    "{{x}}",
    "a,b",
    "[a",
    "{a",
    "!!str a",
    "&a",
    "*a",
  ],
];

const CORPUS: readonly Init[] = [
  minimal,
  { ...minimal, name: "", podName: "pod" },
  { ...minimal, namespace: "ns", podName: "pod", podUid: "uid", nodeName: "node", logFormat: "{path} {response}" },
  { ...minimal, cid: [`containerd://${id}`, "web"], containerNames: { web: "side", [`containerd://${id}`]: "main" } },
  {
    ...minimal,
    subject: [
      subject,
      {
        ...subject,
        allow: ["/a/b"],
        exclude: ["*.x", "**/[!a]"],
        recursive: true,
        maxDepth: 3,
        scope: Scope.CONTAINER,
      },
      { ...subject, event: ["open", "exec", "all"], onlyDir: true, autoAllowOwner: true, audit: true, exact: true },
      { watch: ["/w"], event: ["modify", "closewrite"] },
    ],
  },
  ...TEXTS.map((text): Init => {
    const printable = text.replace(/[\t\u0085]/g, "");
    return {
      ...minimal,
      ...{ name: printable || "n", namespace: printable, podName: printable },
      subject: [{ deny: [`/${text}`, `/x/${text}/y`], event: ["open"], tags: { [text]: text, [`${text}1`]: "" } }],
    };
  }),
  {
    ...minimal,
    subject: [{ deny: ["/a\nb", "/a\n", "/\n\n a", "/\r", "/\x01\x7f"], event: ["open"], tags: { a: "x\n y\n\n" } }],
  },
];

t.test("what is written is read as the same guard", async (t) => {
  for (const [index, init] of CORPUS.entries()) {
    const config = create(JanusdConfigSchema, init);
    const text = formatResources([resourceOf(config)]);
    t.same(parseGuardFile(text), [config], `${index}`);
    t.same(parseGuardFile(JSON.stringify(resourceOf(config))), [config], `${index} as JSON`);
  }
  const distinct = CORPUS.map((init, index) => create(JanusdConfigSchema, { ...init, name: `g${index}` }));
  t.same(parseGuardFile(formatResources(distinct.map(resourceOf))), distinct, "all in one file");
});

t.test("every field of the request is written", async (t) => {
  const config = create(JanusdConfigSchema, {
    ...filled(JanusdConfigSchema),
    ...{ pid: [], cid: [id], containerNames: { [id]: "name" }, logFormat: "{path}" },
    subject: [{ ...filled(JanusGuardSubjectSchema), allow: ["/a"], deny: ["/d"], event: ["open"], watch: ["/w"] }],
  });
  t.same(parseGuardFile(formatResources([resourceOf(config)])), [config]);
});

/** A value other than the default in each field. */
function filled(schema: DescMessage): Record<string, unknown> {
  return Object.fromEntries(schema.fields.map((field) => [field.localName, fillingOf(field)]));
}

function fillingOf(field: DescField): unknown {
  if (field.fieldKind === "map") return { key: "value" };
  if (field.fieldKind === "enum") return field.enum.values[1]?.number;
  const one = field.scalar === undefined ? undefined : { 5: 7, 8: true, 9: "text" }[Number(field.scalar)];
  return field.fieldKind === "list" ? [one] : one;
}

t.test("names of containers are told whichever way their ids are spelt", async (t) => {
  const config = create(JanusdConfigSchema, { ...minimal, cid: [`docker://${id}`], containerNames: { [id]: "web" } });
  t.match(parseGuardFile(formatResources([resourceOf(config)])), [{ containerNames: { [`docker://${id}`]: "web" } }]);
});
