import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import t from "tap";
import { janusctl } from "../../src/cli/janusctl.js";
import { BadRequestSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../src/gen/google/rpc/status_pb.js";
import {
  type GetStatusResponse,
  GetStatusResponseSchema,
  type GuardDetailsSchema,
  GuardSource,
  GuardState,
  InspectionService,
  type ListGuardsRequest,
  type ListGuardsResponse,
  ListGuardsResponseSchema,
  type ListProcessesRequest,
  type ListProcessesResponse,
  ListProcessesResponseSchema,
  type RehearseResponse,
  RehearseResponseSchema,
} from "../../src/gen/janus/v1/inspection_pb.js";
import {
  EmptySchema,
  Janusd,
  type JanusdConfig,
  type JanusdHandle,
  JanusdHandleSchema,
  Scope,
} from "../../src/gen/janus_pb.js";
import { parseGuardFile } from "../../src/guard/file.js";
import { serviceDefinition } from "../../src/rpc/definition.js";

const directory = mkdtempSync(join(tmpdir(), "janusctl-"));
t.teardown(() => rmSync(directory, { recursive: true }));

// The servers of this test speak plaintext TCP.
process.env["JANUSD_INSECURE"] = "true";

const containerId = "0123456789ab".padEnd(64, "c");

const guardFile = `
apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: passwords, namespace: web }
spec:
  podName: web-1
  containers: ["containerd://${containerId}"]
  subjects:
    - { deny: [/etc/shadow], events: [open], recursive: true, scope: container, tags: { a: b } }
---
apiVersion: januscontroller.clustergarage.io/v1alpha1
kind: JanusGuard
metadata: { name: second }
spec:
  containers: [${containerId}]
  subjects: [{ allow: [/etc/passwd], events: [access] }]
`;

/** A daemon's answers, and what it was asked. */
interface Script {
  readonly created: JanusdConfig[];
  readonly destroyed: JanusdConfig[];
  createGuard(config: JanusdConfig): MessageInitShape<typeof JanusdHandleSchema> | ReturnType<typeof failure>;
  guards: readonly MessageInitShape<typeof GuardDetailsSchema>[];
  /** Undefined: the daemon knows no such call. */
  rehearsal: MessageInitShape<typeof RehearseResponseSchema> | undefined;
}

function failure(
  code: status,
  details: string,
  violations: readonly { field: string; description: string }[] = [],
  binary?: Uint8Array,
) {
  const metadata = new Metadata();
  const badRequest = anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations: [...violations] }));
  const statusMessage = create(StatusSchema, { code, message: details, details: [badRequest] });
  metadata.set("grpc-status-details-bin", Buffer.from(binary ?? toBinary(StatusSchema, statusMessage)));
  return { code, details, metadata };
}

/** A gRPC server on a loopback port; returns its address. */
async function serve(t: Tap, script: Script, credentials = ServerCredentials.createInsecure()): Promise<string> {
  const server = new Server();
  server.addService(serviceDefinition(Janusd), {
    createGuard: (call: ServerUnaryCall<JanusdConfig, JanusdHandle>, done: sendUnaryData<JanusdHandle>) => {
      script.created.push(call.request);
      const answer = script.createGuard(call.request);
      if ("details" in answer) done(answer);
      else done(null, create(JanusdHandleSchema, answer));
    },
    destroyGuard: (call: ServerUnaryCall<JanusdConfig, unknown>, done: sendUnaryData<unknown>) => {
      script.destroyed.push(call.request);
      done(null, create(EmptySchema));
    },
  });
  server.addService(serviceDefinition(InspectionService), {
    listGuards: (call: ServerWritableStream<ListGuardsRequest, ListGuardsResponse>) => {
      const { name, namespace, podName } = call.request;
      for (const guard of script.guards) {
        const { config } = guard;
        const fits = (wanted: string, is = ""): boolean => wanted === "" || wanted === is;
        if (fits(name, config?.name) && fits(namespace, config?.namespace) && fits(podName, config?.podName))
          call.write(create(ListGuardsResponseSchema, { guard }));
      }
      call.end();
    },
    listProcesses: (
      { request }: ServerUnaryCall<ListProcessesRequest, ListProcessesResponse>,
      done: sendUnaryData<ListProcessesResponse>,
    ) => {
      if (request.container.includes(containerId)) done(null, create(ListProcessesResponseSchema));
      else done(failure(status.NOT_FOUND, "no such container"));
    },
    ...(script.rehearsal && {
      rehearse: (_call: unknown, done: sendUnaryData<RehearseResponse>) =>
        done(null, create(RehearseResponseSchema, script.rehearsal)),
    }),
    getStatus: (_call: unknown, done: sendUnaryData<GetStatusResponse>) =>
      done(null, create(GetStatusResponseSchema, { version: "9.8.7", commit: "abc" })),
  });
  t.teardown(() => server.forceShutdown());
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  return `127.0.0.1:${port}`;
}

type Tap = Pick<typeof t, "teardown">;

function scriptOf(script: Partial<Script> = {}): Script {
  return {
    created: [],
    destroyed: [],
    guards: [],
    rehearsal: {},
    createGuard: ({ name, namespace, podName, cid }) => ({
      name,
      namespace,
      podName,
      cid,
      nodeName: "node-1",
      pid: [7],
    }),
    ...script,
  };
}

async function run(args: readonly string[], stdin = ""): Promise<{ exit: number; out: string; err: string }> {
  let [out, err] = ["", ""];
  const exit = await janusctl(args, {
    stdin: Readable.from([stdin]),
    stdout: (text) => {
      out += text;
    },
    stderr: (text) => {
      err += text;
    },
  });
  return { exit, out, err };
}

function fileOf(name: string, content: string): string {
  const file = join(directory, name);
  writeFileSync(file, content);
  return file;
}

t.test("create sends every guard of the file, and shows what the daemon holds", async (t) => {
  const script = scriptOf();
  const address = await serve(t, script);
  const file = fileOf("guards.yaml", guardFile);
  const { exit, out, err } = await run(["create", "-f", file, "--address", address]);
  t.equal(err, "");
  t.equal(exit, 0);
  t.same(out.split("\n"), [
    "NAMESPACE   NAME        POD     NODE     CONTAINERS     PIDS",
    "web         passwords   web-1   node-1   0123456789ab   7",
    "-           second      -       node-1   0123456789ab   7",
    "",
  ]);
  t.match(script.created, [
    {
      name: "passwords",
      namespace: "web",
      podName: "web-1",
      cid: [`containerd://${containerId}`],
      subject: [{ deny: ["/etc/shadow"], event: ["open"], recursive: true, scope: Scope.CONTAINER, tags: { a: "b" } }],
    },
    { name: "second", subject: [{ allow: ["/etc/passwd"], event: ["access"] }] },
  ]);
});

t.test("create reads standard input, and prints JSON", async (t) => {
  const script = scriptOf();
  const address = await serve(t, script);
  const { exit, out } = await run(["--address", address, "create", "-f", "-", "-o", "json"], guardFile);
  t.equal(exit, 0);
  const handles = JSON.parse(out);
  t.equal(script.created.length, 2);
  t.strictSame(handles[1], {
    nodeName: "node-1",
    podName: "",
    pid: [7],
    processEventfd: [],
    name: "second",
    namespace: "",
    cid: [containerId],
    mode: "GUARD_MODE_ENFORCE",
  });
});

t.test("a refused guard: one line a violation, the others are still created, exit 1", async (t) => {
  const script = scriptOf({
    createGuard: ({ name }) =>
      name === "second"
        ? { name, nodeName: "node-1" }
        : failure(status.INVALID_ARGUMENT, "two things are wrong", [
            { field: "subject[0].deny[0]", description: "is relative" },
            { field: "subject[0].event", description: "unknown\nname" },
          ]),
  });
  const address = await serve(t, script);
  const { exit, out, err } = await run(["create", "-f", "-", "--address", address], guardFile);
  t.equal(exit, 1);
  t.equal(
    err,
    "janusctl: stdin:9: guard web/passwords: spec.subjects[0].deny[0]: INVALID_ARGUMENT: is relative\n" +
      "janusctl: stdin:9: guard web/passwords: spec.subjects[0].events: INVALID_ARGUMENT: unknown\\x0aname\n",
  );
  t.match(out, /^NAMESPACE.*\n- +second +- +node-1 +- +-\n$/);
});

t.test("an error without violations, or with details that are not readable, shows its message", async (t) => {
  for (const answer of [
    failure(status.NOT_FOUND, "no running container"),
    failure(status.NOT_FOUND, "no running container", [], Uint8Array.of(255, 255)),
  ]) {
    const address = await serve(t, scriptOf({ createGuard: () => answer }));
    const { exit, out, err } = await run(["create", "-f", "-", "--address", address], guardFile.split("---")[0]);
    t.same(
      { exit, out, err },
      { exit: 1, out: "", err: "janusctl: stdin:2: guard web/passwords: NOT_FOUND: no running container\n" },
    );
  }
});

t.test("a guard file that is wrong is refused before anything is sent", async (t) => {
  const script = scriptOf();
  const address = await serve(t, script);
  const file = fileOf("wrong.yaml", guardFile.replace("/etc/shadow", "etc/shadow").replace("[access]", "[OPEN]"));
  const { exit, out, err } = await run(["create", "-f", file, "--address", address]);
  t.equal(exit, 1);
  t.equal(out, "");
  t.match(err, /^janusctl: .*wrong\.yaml:9: .*deny\[0\].*\njanusctl: .*wrong\.yaml:16: .*events\[0\].*\n$/);
  t.same(script.created, []);
});

const [passwords, second] = parseGuardFile(guardFile);
if (passwords === undefined || second === undefined) throw new Error("two guards");
const active = {
  ...{ nodeName: "n", source: GuardSource.RPC, state: GuardState.ACTIVE, complete: true },
  containers: [{ id: containerId, firstPid: 7 }],
};

t.test("an error is said where the file says what is wrong; of a container, too", async (t) => {
  const answer = failure(status.NOT_FOUND, `no running container "${containerId}" on this node`);
  const address = await serve(t, scriptOf({ createGuard: () => answer }));
  const file = fileOf("gone.yaml", guardFile);
  const { exit, err } = await run(["apply", "-f", file, "--address", address]);
  t.equal(exit, 1);
  t.equal(
    err,
    `janusctl: ${file}:7: guard web/passwords: spec.containers[0]: NOT_FOUND: ${answer.details}\n` +
      `janusctl: ${file}:15: guard second: spec.containers[0]: NOT_FOUND: ${answer.details}\n`,
  );
});

t.test("apply says what became of each guard", async (t) => {
  const changed = { ...passwords, subject: [] };
  for (const [guards, outcome] of [
    [[], "created"],
    [[{ config: passwords, ...active }], "unchanged"],
    [[{ config: changed, ...active }], "configured"],
    [[{ config: passwords, ...active, complete: false }], "configured"],
    [[{ config: passwords, ...active, state: GuardState.PENDING }], "configured"],
    [[{ config: { ...passwords, podName: "another" }, ...active }], "created"],
  ] as const) {
    const script = scriptOf({ guards });
    const address = await serve(t, script);
    const args = ["apply", "-f", "-", "--address", address];
    t.same(await run(args, guardFile), { exit: 0, out: `web/passwords ${outcome}\nsecond created\n`, err: "" });
    t.match(script.created, [{ name: "passwords" }, { name: "second" }], "the daemon knows best");
    const json = await run([...args, "-o", "json"], guardFile);
    t.same(JSON.parse(json.out)[0], { name: "passwords", namespace: "web", podName: "web-1", outcome });
  }
});

t.test("what may not be meant is said on standard error, where the file says it", async (t) => {
  const [one = ""] = guardFile.split("---\n");
  const warnings = [{ field: "subject[0].deny[0]", description: "no such\npath" }];
  const address = ["--address", await serve(t, scriptOf({ guards: [{ config: passwords, ...active, warnings }] }))];
  const warning = "guard web/passwords: spec.subjects[0].deny[0]: warning: no such\\x0apath\n";
  const err = `janusctl: stdin:9: ${warning}`;
  t.match(await run(["apply", "-f", "-", ...address], one), { exit: 0, out: "web/passwords unchanged\n", err });
  t.match(await run(["create", "-f", "-", ...address], one), { exit: 0, err });
  t.match(await run(["list", ...address]), { exit: 0, out: /^NAMESPACE/, err: `janusctl: ${warning}` });
  const [listed] = JSON.parse((await run(["list", "-o", "json", ...address])).out);
  t.same(listed.status.warnings, [{ field: "spec.subjects[0].deny[0]", description: "no such\npath" }]);
  const pattern = one.replace("/etc/shadow", '"/etc/*"');
  const offline =
    /^janusctl: stdin:9: guard web\/passwords: spec\.subjects\[0\]\.deny\[0\]: warning: \* is part of .*\n$/;
  t.match(await run(["validate", "-f", "-"], pattern), { exit: 0, out: /valid/, err: offline });
  t.match(await run(["apply", "--dry-run", "-f", "-", ...address], pattern), { exit: 0, err: offline });
});

t.test("apply --dry-run creates nothing, and looks for the containers", async (t) => {
  const script = scriptOf({ guards: [{ config: second, ...active }] });
  const address = await serve(t, script);
  const args = ["apply", "--dry-run", "-f", "-", "--address", address];
  const created = "web/passwords created (dry run)\nof the last 0 events, 0 would be answered otherwise\n";
  const outcome = `${created}second unchanged (dry run)\n`;
  t.same(await run(args, guardFile), { exit: 0, out: outcome, err: "" });
  t.same(await run(args, guardFile.replace(`[${containerId}]`, "[gone]")), {
    exit: 1,
    out: created,
    err: "janusctl: stdin:15: guard second: spec.containers[0]: NOT_FOUND: no such container\n",
  });
  t.same(script.created, []);
});

t.test("apply --dry-run of a daemon that knows no such thing, and of one that says all there is", async (t) => {
  const [one = ""] = guardFile.split("---\n");
  const args = ["apply", "--dry-run", "-f", "-", "--address"];
  const older = await serve(t, scriptOf({ rehearsal: undefined }));
  t.match(await run([...args, older], one), { exit: 0, out: "web/passwords created (dry run)\n", err: /is older/ });
  t.same((await run([...args, older, "--events", "0"], one)).err, "");
  const example = {
    count: 2n,
    event: "open",
    path: "/a",
    comm: "c\n",
    executable: "/x",
    uid: 7,
    container: containerId,
  };
  const rehearsal = {
    events: 9n,
    changes: [{ was: 1, wouldBe: 2, count: 5n }],
    examples: [{ ...example, was: 1, wouldBe: 2 }],
    assumed: 1n,
    missingContainers: ["gone"],
    faults: [{ path: "/b", reason: "leads nowhere" }],
  };
  const address = await serve(t, scriptOf({ rehearsal }));
  t.same((await run([...args, address], one)).out.split("\n").slice(1), [
    "of the last 9 events, 5 would be answered otherwise: 5 ALLOW -> DENY",
    "COUNT   EVENT   PATH   PROGRAM   NAME    UID   CONTAINER      WAS     WOULD BE",
    "2       open    /a     /x        c\\x0a   7     0123456789ab   ALLOW   DENY",
    "and 3 others",
    "of 1, the process has ended: taken for one that is no owner (autoAllowOwner)",
    "container gone does not run: no event is judged for it",
    "/b leads nowhere: no event is judged by it",
    "",
  ]);
  const [{ rehearsal: told }] = JSON.parse((await run([...args, address, "-o", "json"], one)).out);
  t.match(told, { events: "9", changes: [{ was: "RESPONSE_ALLOW", wouldBe: "RESPONSE_DENY", count: "5" }] });
});

t.test("several files, each guard once", async (t) => {
  const script = scriptOf();
  const address = await serve(t, script);
  const [one, two = ""] = guardFile.split("---\n");
  const files = [fileOf("one.yaml", one ?? ""), fileOf("two.yaml", two)];
  const both = files.flatMap((file) => ["-f", file]);
  t.match(await run(["apply", ...both, "--address", address]), { exit: 0, out: /^web.*\nsecond created\n$/ });
  t.equal(script.created.length, 2);
  const twice = await run(["apply", ...both, "-f", fileOf("three.yaml", two), "--address", address]);
  t.match(twice, { exit: 1, out: "", err: /three\.yaml:3: metadata\.name: .*two\.yaml has the same guard\n$/ });
  t.equal(script.created.length, 2);
});

t.test("diff: what applying would change", async (t) => {
  const script = scriptOf({ guards: [{ config: passwords, ...active }] });
  const args = ["diff", "-f", "-", "--address", await serve(t, script)];
  const [one = ""] = guardFile.split("---\n");
  t.same(await run(args, one), { exit: 0, out: "", err: "" });
  const changed = await run(args, one.replace("[/etc/shadow]", "[/etc/shadow, /etc/gshadow]"));
  t.match(changed, { exit: 1, err: "" });
  t.match(changed.out, /^--- live\/web\/passwords.*\n\+\+\+ stdin.*\n@@ -\d+,\d+ \+\d+,\d+ @@\n/);
  t.match(changed.out, /\n {9}- \/etc\/shadow\n\+ {8}- \/etc\/gshadow\n/);
  const created = await run(args, guardFile);
  t.match(created, { exit: 1, out: /^--- \/dev\/null.*\n\+\+\+ stdin.*\n@@ .*\n\+apiVersion: / });
  t.match(await run(args, "kind: Pod\n"), { exit: 2, out: "", err: /stdin:1: .*kind: must be JanusGuard\n/ });
  t.match(await run(["diff", "-f", "/nonexistent"]), { exit: 2, err: /ENOENT/ });
  t.match(await run(["diff", "-f", "-", "--address", "127.0.0.1:1"], one), { exit: 2, err: /UNAVAILABLE/ });
  t.same(script.created, []);
});

t.test("validate asks nobody", async (t) => {
  const args = ["validate", "-f", "-", "--address", "127.0.0.1:1"];
  const out = "stdin: web/passwords is valid\nstdin: second is valid\n";
  t.same(await run(args, guardFile), { exit: 0, out, err: "" });
  t.match(await run(args, guardFile.replace("/etc/shadow", "etc")), {
    exit: 1,
    out: "",
    err: /^janusctl: stdin:9: .*\n$/,
  });
});

t.test("get prints what apply takes", async (t) => {
  const script = scriptOf({
    guards: [
      { config: passwords, ...active },
      { config: second, ...active },
    ],
  });
  const address = ["--address", await serve(t, script)];
  const yaml = await run(["get", "passwords", ...address]);
  t.match(yaml, { exit: 0, err: "" });
  t.same(parseGuardFile(yaml.out), [passwords]);
  t.notMatch(yaml.out, /status/);
  const json = await run(["get", "second", "-o", "json", ...address]);
  t.same(parseGuardFile(json.out), [second]);
  t.match(JSON.parse(json.out), { kind: "JanusGuard", metadata: { name: "second" } });
  t.same(await run(["get", "passwords", "-n", "other", ...address]), {
    exit: 1,
    out: "",
    err: "janusctl: guard passwords: not found\n",
  });
  script.guards = [{ config: passwords }, { config: { ...passwords, podName: "web-2" } }];
  t.same(await run(["get", "passwords", ...address]), {
    exit: 1,
    out: "",
    err: "janusctl: 2 guards are named passwords (web/web-1, web/web-2): give --pod or -n\n",
  });
  t.same(parseGuardFile((await run(["get", "passwords", "--pod", "web-1", ...address])).out), [passwords]);
});

t.test("list", async (t) => {
  const script = scriptOf({
    guards: [
      {
        ...active,
        config: {
          ...{ name: "a", podName: "p\x1b[31m", cid: [`docker://${containerId}`, "other"] },
          subject: [
            { deny: ["/d", "/e"], allow: ["/d/a", "/f"], event: ["open"], scope: Scope.CONTAINER },
            { watch: ["/w"], event: ["modify"] },
          ],
        },
        since: timestampFromMs(Date.now() - 3 * 3600_000),
        complete: false,
        decisions: [
          { event: "open", allowed: 2n, denied: 3n },
          { event: "exec", allowed: 0n, denied: 1n },
        ],
      },
      {
        ...{ nodeName: "n", source: GuardSource.STATE, state: GuardState.PENDING, reason: "no room" },
        config: { name: "longer-name", subject: [{ deny: ["/x"], event: ["open"] }] },
      },
    ],
  });
  const address = ["--address", await serve(t, script)];
  t.same((await run(["list", ...address])).out.split("\n"), [
    "NAMESPACE   NAME          POD         CONTAINERS     MODE            SCOPE                PATHS                      DECISIONS             AGE   STATE",
    "-           a             p\\x1b[31m   0123456789ab   enforce,watch   container,everyone   deny /d,/e allow /d/a +2   4 denied, 2 allowed   3h    partial: 1 of 2 containers",
    "-           longer-name   -           -              enforce         everyone             deny /x                    0 denied, 0 allowed   -     pending: no room",
    "",
  ]);
  const wide = await run(["list", "a", "-o", "wide", ...address]);
  t.match(wide.out, /^.* NODE .* PIDS .* EVENTS .* SOURCE .*\n.* n .* 7 .* open,modify .* rpc .*T.*Z .*\n$/);
  t.match(wide.out, " deny /d,/e allow /d/a,/f watch /w ");
  const json = await run(["list", "-o", "json", ...address]);
  t.match(JSON.parse(json.out), [
    {
      metadata: { name: "a" },
      spec: { subjects: [{ deny: ["/d", "/e"] }, { watch: ["/w"] }] },
      status: {
        ...{ state: "active", source: "rpc", nodeName: "n", complete: false, since: /Z$/ },
        containers: [{ id: containerId, firstPid: 7 }],
        decisions: { open: { allowed: 2, denied: 3 }, exec: { allowed: 0, denied: 1 } },
      },
    },
    { metadata: { name: "longer-name" }, status: { state: "pending", source: "state", reason: "no room" } },
  ]);
  t.match(await run(["list", "none", ...address]), { exit: 1, out: "", err: "janusctl: guard none: not found\n" });
  script.guards = [
    { config: passwords, ...active },
    { config: second, ...active },
  ];
  t.same(parseGuardFile((await run(["list", "-o", "yaml", ...address])).out), [passwords, second], "a file for apply");
  script.guards = [];
  t.match((await run(["list", ...address])).out, /^NAMESPACE .* STATE\n$/);
  t.equal((await run(["list", "-o", "json", ...address])).out, "[]\n");
});

t.test("list --watch prints what is new, what changed and what is gone", async (t) => {
  const guards = (count: number) => [
    { config: second, ...active },
    { config: passwords, ...active, decisions: [{ event: "open", denied: BigInt(count) }] },
  ];
  const script = scriptOf({ guards: guards(1) });
  const address = await serve(t, script);
  const lines: { metadata: { name: string }; status: { state: string } }[] = [];
  // What it prints leads to what is next; an answer that makes no sense ends it.
  const steps = [guards(1), guards(2), guards(2).slice(1), [{ config: passwords, ...active }, {}]];
  const ended = await janusctl(["list", "--watch", "-o", "json", "--address", address], {
    stdin: Readable.from([]),
    stdout: (text) => {
      lines.push(JSON.parse(text));
      if (lines.length > 1) script.guards = steps[lines.length - 1] ?? [];
    },
    stderr: () => undefined,
  });
  t.equal(ended, 1);
  t.match(lines, [
    { metadata: { name: "second" }, status: { state: "active" } },
    { metadata: { name: "passwords" }, status: { decisions: { open: { denied: 1 } } } },
    { metadata: { name: "passwords" }, status: { decisions: { open: { denied: 2 } } } },
    { metadata: { name: "second" }, status: { state: "deleted" } },
  ]);
});

t.test("version: ours and the daemon's", async (t) => {
  const address = ["--address", await serve(t, scriptOf())];
  const ours = /^client: janusctl \d+\.\d+\.\d+ \(commit \w+\)\n/;
  const both = await run(["version", ...address]);
  t.match(both, { exit: 0, err: "", out: ours });
  t.match(both.out, /\nserver: janusd 9\.8\.7 \(commit abc\)\n$/);
  const json = await run(["version", "-o", "json", ...address]);
  t.match(JSON.parse(json.out), { client: { version: /\./ }, server: { version: "9.8.7", commit: "abc" } });
  t.match(await run(["version", "--address", "127.0.0.1:1"]), {
    ...{ exit: 1, out: ours },
    err: /^janusctl: server: UNAVAILABLE: .*\n$/,
  });
  t.match(await run(["version", "--client", "--address", "127.0.0.1:1"]), { exit: 0, out: ours, err: "" });
});

t.test("delete names the guard, and its pod if that is given", async (t) => {
  const script = scriptOf({ guards: [{ config: passwords }] });
  const address = await serve(t, script);
  t.same(await run(["delete", "passwords", "--address", address]), { exit: 0, out: "passwords deleted\n", err: "" });
  const json = await run(["delete", "passwords", "--pod", "web-1", "-n", "web", "-o", "json", "--address", address]);
  t.same(JSON.parse(json.out), { name: "passwords", count: 1 });
  t.match(script.destroyed, [
    { name: "passwords", podName: "", namespace: "" },
    { name: "passwords", podName: "web-1", namespace: "web" },
  ]);
});

t.test("delete -f: what the file has, and no more", async (t) => {
  const other = { ...second, podName: "web-1" };
  const script = scriptOf({ guards: [{ config: passwords }, { config: second }, { config: other }] });
  const args = ["delete", "-f", "-", "--address", await serve(t, script)];
  t.same(await run(args, guardFile), {
    exit: 1,
    out: "web/passwords deleted\n",
    err: "janusctl: stdin:11: guard second: it would also delete -/-, -/web-1: give --all, or delete it by name\n",
  });
  t.match(script.destroyed, [{ name: "passwords", podName: "web-1", namespace: "web" }]);
  t.match(await run([...args, "--all"], guardFile), {
    exit: 0,
    out: "web/passwords deleted\nsecond deleted\nsecond deleted\n",
  });
  script.guards = [{ config: other }];
  t.match(await run(args, guardFile.split("---\n")[1]), { exit: 1, out: "", err: /guard second: not found\n$/ });
  t.equal(script.destroyed.length, 3);
});

t.test("nobody listens", async (t) => {
  const { exit, out, err } = await run(["list", "--address", "127.0.0.1:1"]);
  t.equal(exit, 1);
  t.equal(out, "");
  t.equal(err, "janusctl: UNAVAILABLE: nobody listens at 127.0.0.1:1\n");
});

t.test("a command line that makes no sense: exit 2, and nothing is sent", async (t) => {
  const script = scriptOf();
  const address = await serve(t, script);
  const cases: [args: string[], message: RegExp][] = [
    [["create"], /required option '-f, --file <file>' not specified/],
    [["apply"], /required option '-f, --file <file>' not specified/],
    [["get"], /missing required argument 'name'/],
    [["get", "a", "-o", "table"], /Allowed choices are yaml, json/],
    [["delete"], /give a name or -f, one of both/],
    [["delete", "a", "-f", "b"], /give a name or -f, one of both/],
    [["delete", "-f", "b", "--pod", "c"], /with -f, the file names the pod/],
    [["delete", "a", "b"], /too many arguments/],
    [["list", "--output", "xml"], /Allowed choices are table, wide, yaml, json/],
    [["list", "--colour"], /unknown option '--colour'/],
    [["lst"], /unknown command 'lst'/],
    [["list", "--tlscertfile", "/dev/null"], /--tlscertfile and --tlskeyfile belong together/],
    [["list", "--tlskeyfile", "/dev/null"], /--tlscertfile and --tlskeyfile belong together/],
    [[], /Usage: janusctl/],
  ];
  for (const [args, message] of cases) {
    const { exit, out, err } = await run(["--address", address, ...args]);
    t.equal(exit, 2, args.join(" "));
    t.match(err, message);
    t.equal(out, "");
  }
  t.same([...script.created, ...script.destroyed], []);
});

t.test("help is no error, and shows the connection's options with each command", async (t) => {
  for (const args of [["--help"], ["create", "--help"]]) {
    const { exit, out, err } = await run(args);
    t.equal(exit, 0);
    t.equal(err, "");
    t.match(out, /--address/);
  }
});

t.test("a file that isn't there", async (t) => {
  t.match(await run(["create", "-f", "/nonexistent"]), { exit: 1, err: /^janusctl: ENOENT: .*\/nonexistent'\n$/ });
  t.match(await run(["list", "--address", "127.0.0.1:1", "--tlscafile", "/nonexistent"]), {
    exit: 2,
    err: "error: --tlscafile /nonexistent: there is no such file\n",
  });
});

t.test("mutual TLS", async (t) => {
  const file = (name: string) => join(directory, name);
  const openssl = (...args: string[]) => {
    const { status, stderr } = spawnSync("openssl", args, { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
  };
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl("req", "-x509", ...newKey, "-keyout", file("ca.key"), "-out", file("ca.pem"), "-subj", "/CN=ca");
  for (const name of ["server", "client"]) {
    const names = ["-addext", "subjectAltName=IP:127.0.0.1"];
    openssl(
      "req",
      ...newKey,
      "-keyout",
      file(`${name}.key`),
      "-out",
      file(`${name}.csr`),
      "-subj",
      `/CN=${name}`,
      ...names,
    );
    const ca = ["-CA", file("ca.pem"), "-CAkey", file("ca.key"), "-CAcreateserial", "-copy_extensions", "copy"];
    openssl("x509", "-req", "-in", file(`${name}.csr`), ...ca, "-out", file(`${name}.pem`));
  }
  const pair = { private_key: readFileSync(file("server.key")), cert_chain: readFileSync(file("server.pem")) };
  const address = await serve(
    t,
    scriptOf({ guards: [{ config: { name: "a" } }] }),
    ServerCredentials.createSsl(readFileSync(file("ca.pem")), [pair], true),
  );
  const ca = ["--tlscafile", file("ca.pem")];
  const identity = ["--tlscertfile", file("client.pem"), "--tlskeyfile", file("client.key")];
  const list = ["list", "-o", "json", "--address", address];
  t.match(await run([...list, ...ca, ...identity]), { exit: 0, out: /"name": "a"/ }, "files given mean TLS on");
  t.match(await run([...list, "--tls", ...ca, ...identity]), { exit: 0, out: /"name": "a"/ });
  t.match(
    await run([...list, ...ca]),
    { exit: 1, err: /^janusctl: UNAVAILABLE/ },
    "the server wants to know who we are",
  );
  t.match(
    await run([...list, "--tls", ...identity]),
    { exit: 1, err: /^janusctl: UNAVAILABLE/ },
    "we do not know this CA",
  );
  t.match(await run(list), { exit: 1, err: /^janusctl: UNAVAILABLE/ }, "plaintext");
});
