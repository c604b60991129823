/** The API server, gRPC and the guard file judge the same guards, and name the same fields. */
import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import tap, { type Test } from "tap";
import { stringify } from "yaml";
import { LIMITS } from "../../deploy/crds/guard.ts";
import { JanusdError } from "../../src/errors.js";
import { JanusdConfigSchema } from "../../src/gen/janus_pb.js";
import { fileField } from "../../src/guard/document.js";
import { GuardFileError, parseGuardFile } from "../../src/guard/file.js";
import { parseGuard } from "../../src/guard/guard.js";
import { installCrds, type KubeApi, kubeSkip, startKubeApi } from "../support/kube-api.js";
import { type Case, CORPUS, type Judge } from "./corpus.js";

// The API server judges hundreds of guards, beside other tests.
tap.setTimeout(300_000);

const API_VERSION = "januscontroller.clustergarage.io/v1alpha1";
const CONTAINER = "a".repeat(64);

type Spec = Case["spec"];

/** Each refused field, and what is said about it. Undefined: refused as a whole, without a field. */
type Verdict = ReadonlyMap<string, string> | undefined;

function byGuardFile(spec: Spec): Verdict {
  const document = {
    apiVersion: API_VERSION,
    kind: "JanusGuard",
    metadata: { name: "a" },
    spec: { containers: [CONTAINER], ...spec },
  };
  try {
    parseGuardFile(stringify(document));
    return new Map();
  } catch (error) {
    if (!(error instanceof GuardFileError)) throw error;
    return new Map(error.problems.map(({ field, description }) => [field, description]));
  }
}

const ENUMS: Readonly<Record<string, string>> = { mode: "GUARD_MODE", scope: "SCOPE" };

/** As the request's JSON has it. */
function renamed(fields: Spec, names: Readonly<Record<string, string>>): JsonObject {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  const json = entries.map(([name, value]) => {
    const prefix = ENUMS[name];
    return [names[name] ?? name, prefix === undefined ? value : `${prefix}_${String(value).toUpperCase()}`] as const;
  });
  return JSON.parse(JSON.stringify(Object.fromEntries(json)));
}

function byGrpc(spec: Spec): Verdict {
  const { subjects, ...rest } = spec;
  const subject = Array.isArray(subjects)
    ? subjects.map((one: Spec): JsonValue => renamed(one, { events: "event" }))
    : [];
  const request = { name: "a", cid: [CONTAINER], subject, ...renamed(rest, {}) };
  try {
    parseGuard(fromJson(JanusdConfigSchema, request));
    return new Map();
  } catch (error) {
    // Not a request: protobuf's own refusal.
    if (!(error instanceof JanusdError)) return undefined;
    if (error.data.kind !== "invalid") throw error;
    return new Map(error.data.violations.map(({ field, description }) => [fileField(field), description]));
  }
}

async function byApiServer(api: KubeApi, spec: Spec, kind: "JanusGuard" | "ClusterJanusGuard"): Promise<Verdict> {
  const place = kind === "JanusGuard" ? "namespaces/default/janusguards" : "clusterjanusguards";
  const selectors = kind === "JanusGuard" ? { selector: {} } : { selector: {}, namespaceSelector: {} };
  const body = { apiVersion: API_VERSION, kind, metadata: { name: "a" }, spec: { ...selectors, ...spec } };
  const { status, content } = await api.request("POST", `/apis/${API_VERSION}/${place}?dryRun=All`, body);
  if (status === 201) return new Map();
  const causes = content.details?.causes ?? [];
  // "<nil>" says no more than that rules were left out after a worse fault.
  return new Map(
    causes.map(({ field = "", message }) => [field, message] as const).filter(([field]) => field !== "<nil>"),
  );
}

/** Whether one field is the other, or in it: a rule may stand at the whole that the other has the part of. */
function akin(one: string, other: string): boolean {
  const [short, long] = one.length < other.length ? [one, other] : [other, one];
  return long === short || (long.startsWith(short) && /^[.[]/.test(long.slice(short.length)));
}

function agrees(t: Test, verdict: Verdict, one: Case, judge: Judge): void {
  const expected = one.only === undefined || one.only.by.includes(judge) ? one.refused : [];
  const what = `${judge}: ${one.name}`;
  if (verdict === undefined) {
    t.not(expected.length, 0, what);
    return;
  }
  const fields = [...verdict.keys()];
  const fits =
    fields.length > 0 === expected.length > 0 &&
    expected.every((field) => fields.some((other) => akin(field, other))) &&
    fields.every((field) => expected.some((other) => akin(field, other)));
  t.ok(fits, what, { expected, refused: [...verdict] });
}

/** From 0 to 1, the same ones each time: a linear congruential generator. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Up to nine of what `alphabet` has between spaces. */
function* pieces(random: () => number, alphabet: string): Generator<string> {
  const letters = alphabet.split(" ");
  for (let left = random() * 9; left >= 0; left--) yield letters[Math.floor(random() * letters.length)] ?? "";
}

tap.test("the guard file and gRPC", async (t) => {
  for (const one of CORPUS) {
    agrees(t, byGuardFile(one.spec), one, "file");
    agrees(t, byGrpc(one.spec), one, "grpc");
  }
});

tap.test("the API server", { skip: kubeSkip("kube-apiserver") }, async (t) => {
  const api = await startKubeApi(t);
  await installCrds(api);
  for (const kind of ["JanusGuard", "ClusterJanusGuard"] as const) {
    for (const one of CORPUS) agrees(t, await byApiServer(api, one.spec, kind), one, "api");
  }

  // Texts that nobody would think of, made of what paths, globs and log formats treat as special.
  const random = numbers(20_261_129);
  const texts = (alphabet: string, count: number): string[] =>
    Array.from({ length: count }, () => [...pieces(random, alphabet)].join(""));
  const lists = {
    deny: texts("/ / / . . .. a \0 \n ü", LIMITS.paths),
    exclude: texts("/ . .. [ ] ! ^ \\ a * ** \0 ü", LIMITS.globs),
  };
  const spec = { subjects: [{ ...lists, events: ["open"] }] };
  const [server, file] = [await byApiServer(api, spec, "JanusGuard"), byGuardFile(spec)].map(
    (verdict) => new Set(verdict?.keys()),
  );
  for (const [list, items] of Object.entries(lists)) {
    for (const [index, item] of items.entries()) {
      const field = `spec.subjects[0].${list}[${index}]`;
      if (server?.has(field) !== file?.has(field)) t.fail(`only one refuses ${JSON.stringify(item)} in ${list}`);
    }
  }
  t.ok((file?.size ?? 0) > 50 && (file?.size ?? 0) < LIMITS.paths + LIMITS.globs - 50, "good and bad ones");

  for (const logFormat of texts("{ { } } path pid x \n", 100)) {
    const one = { subjects: [{ deny: ["/a"], events: ["open"] }], logFormat };
    const refused = [await byApiServer(api, one, "JanusGuard"), byGuardFile(one)].map((verdict) =>
      verdict?.has("spec.logFormat"),
    );
    t.equal(refused[0], refused[1], JSON.stringify(logFormat));
  }
});
