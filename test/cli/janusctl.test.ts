import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
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
  EmptySchema,
  Janusd,
  type JanusdConfig,
  type JanusdHandle,
  JanusdHandleSchema,
  Scope,
} from "../../src/gen/janus_pb.js";
import { serviceDefinition } from "../../src/rpc/definition.js";

const directory = mkdtempSync(join(tmpdir(), "janusctl-"));
t.teardown(() => rmSync(directory, { recursive: true }));

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
  handles: readonly MessageInitShape<typeof JanusdHandleSchema>[];
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
    getGuardState: (call: ServerWritableStream<unknown, JanusdHandle>) => {
      for (const handle of script.handles) call.write(create(JanusdHandleSchema, handle));
      call.end();
    },
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
    handles: [],
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
    "janusctl: guard passwords: INVALID_ARGUMENT: subject[0].deny[0]: is relative\n" +
      "janusctl: guard passwords: INVALID_ARGUMENT: subject[0].event: unknown\\x0aname\n",
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
      { exit: 1, out: "", err: "janusctl: guard passwords: NOT_FOUND: no running container\n" },
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

t.test("list", async (t) => {
  const script = scriptOf({
    handles: [
      {
        name: "a",
        podName: "p\x1b[31m",
        nodeName: "n",
        cid: [`docker://${containerId}`, "other"],
        pid: [1, 2, 3, 4, 5, 6],
      },
      { name: "longer-name", podName: "q", nodeName: "n", pid: [10] },
    ],
  });
  const address = await serve(t, script);
  const table = await run(["list", "--address", address]);
  t.equal(table.exit, 0);
  t.same(table.out.split("\n"), [
    "NAMESPACE   NAME          POD         NODE   CONTAINERS           PIDS",
    "-           a             p\\x1b[31m   n      0123456789ab,other   1,2,3,4,+2",
    "-           longer-name   q           n      -                    10",
    "",
  ]);
  const json = await run(["list", "-o", "json", "--address", address]);
  t.match(JSON.parse(json.out), [{ name: "a", pid: [1, 2, 3, 4, 5, 6] }, { name: "longer-name" }]);
  script.handles = [];
  t.equal((await run(["list", "--address", address])).out, "NAMESPACE   NAME   POD   NODE   CONTAINERS   PIDS\n");
  t.equal((await run(["list", "-o", "json", "--address", address])).out, "[]\n");
});

t.test("delete names the guard, and its pod if that is given", async (t) => {
  const script = scriptOf({ handles: [{ name: "passwords", podName: "web-1", namespace: "web" }] });
  const address = await serve(t, script);
  t.same(await run(["delete", "passwords", "--address", address]), { exit: 0, out: "passwords deleted\n", err: "" });
  const json = await run(["delete", "passwords", "--pod", "web-1", "-n", "web", "-o", "json", "--address", address]);
  t.same(JSON.parse(json.out), { name: "passwords", count: 1 });
  t.match(script.destroyed, [
    { name: "passwords", podName: "", namespace: "" },
    { name: "passwords", podName: "web-1", namespace: "web" },
  ]);
});

t.test("nobody listens", async (t) => {
  const { exit, out, err } = await run(["list", "--address", "127.0.0.1:1"]);
  t.equal(exit, 1);
  t.equal(out, "");
  t.match(err, /^janusctl: UNAVAILABLE: .*127\.0\.0\.1:1.*\n$/);
});

t.test("a command line that makes no sense: exit 2, and nothing is sent", async (t) => {
  const script = scriptOf();
  const address = await serve(t, script);
  const cases: [args: string[], message: RegExp][] = [
    [["create"], /required option '-f, --file <file>' not specified/],
    [["delete"], /missing required argument 'name'/],
    [["delete", "a", "b"], /too many arguments/],
    [["list", "--output", "yaml"], /Allowed choices are table, json/],
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
  t.match(await run(["list", "--tlscafile", "/nonexistent"]), {
    exit: 1,
    err: /^janusctl: ENOENT: .*\/nonexistent'\n$/,
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
    scriptOf({ handles: [{ name: "a" }] }),
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
