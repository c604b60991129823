/** Events as OpenTelemetry log records: to a collector that takes them, and to such that don't. */
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import t, { type Test } from "tap";
import { startContainer } from "../support/container.js";
import { type Daemon, eventually, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

interface KeyValue {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: number; readonly boolValue?: boolean };
}

/** Of an ExportLogsServiceRequest as JSON (opentelemetry/proto/collector/logs/v1): what is looked at here. */
interface Request {
  readonly resourceLogs: readonly {
    readonly resource: { readonly attributes: readonly KeyValue[] };
    readonly scopeLogs: readonly {
      readonly logRecords: readonly {
        readonly timeUnixNano: string;
        readonly severityText: string;
        readonly eventName: string;
        readonly body: { readonly stringValue: string };
        readonly attributes: readonly KeyValue[];
      }[];
    }[];
  }[];
}

function valuesOf(attributes: readonly KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}

/** A collector. `answer`: undefined never answers. */
async function collector(t: Test, answer: number | undefined): Promise<{ endpoint: string; requests: Request[] }> {
  const requests: Request[] = [];
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      t.equal(request.url, "/some/v1/logs");
      requests.push(JSON.parse(Buffer.concat(chunks).toString()));
      if (answer !== undefined) response.writeHead(answer, { "content-type": "application/json" }).end("{}");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { endpoint: `http://127.0.0.1:${port}/some/`, requests };
}

async function guarded(daemon: Daemon, t: Test) {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const subject = { deny: ["/etc/secret"], tags: { team: "blue" } };
  await daemon.createGuard(guardOn(container, subject, { name: "g", podName: "p", namespace: "n" }));
  return { container, actor: await container.actor() };
}

const dropped = (daemon: Daemon, reason: string) => daemon.metric("janusd_log_lines_dropped_total", { reason });

t.test("a collector gets each event, with everything the log knows", async (t) => {
  const { endpoint, requests } = await collector(t, 200);
  const daemon = await startDaemon({ flags: [`--otlp-endpoint=${endpoint}`, "--log-format=off"] }, t);
  const { container, actor } = await guarded(daemon, t);
  for (let count = 0; count < 3; ++count) t.equal(await actor.open("/etc/secret"), EPERM);
  const records = () =>
    requests.flatMap(({ resourceLogs }) =>
      resourceLogs.flatMap(({ scopeLogs }) => scopeLogs.flatMap(({ logRecords }) => logRecords)),
    );
  await eventually("they have come", () => records().length >= 3, 5_000);
  await daemon.stop();
  t.equal(records().length, 3, "each once");
  const [first] = records();
  t.match(first, {
    severityText: "WARN",
    eventName: "janusd.file",
    body: { stringValue: "DENY OPEN_PERM /etc/secret" },
  });
  t.ok(Math.abs(Number(first?.timeUnixNano) / 1e6 - Date.now()) < 60_000);
  t.match(valuesOf(first?.attributes ?? []), {
    "k8s.namespace.name": "n",
    "k8s.pod.name": "p",
    "container.id": container.id,
    "file.path": "/etc/secret",
    "process.executable.path": "/bin/actor",
    "janusd.guard": "n/g",
    "janusd.response": "DENY",
    "janusd.tag.team": "blue",
  });
  const [resource] = requests.flatMap(({ resourceLogs }) => resourceLogs.map(({ resource }) => resource));
  t.match(valuesOf(resource?.attributes ?? []), { "service.name": "janusd", "k8s.node.name": "testnode" });
  t.same(daemon.lines, [], "standard output is off");
});

t.test("what a collector rejects is counted, and standard output has it", async (t) => {
  const { endpoint } = await collector(t, 400);
  const daemon = await startDaemon({ flags: [`--otlp-endpoint=${endpoint}`] }, t);
  const { actor } = await guarded(daemon, t);
  t.equal(await actor.open("/etc/secret"), EPERM);
  await daemon.waitForLine((line) => line.startsWith("<DENY>"));
  await eventually("it is counted", async () => (await dropped(daemon, "rejected")) === 1, 5_000);
  t.equal(await daemon.metric("janusd_sink_queue_bytes", { sink: "otlp" }), 0);
  await daemon.stop();
});

t.test("a collector that never answers holds nobody, not even the end", async (t) => {
  const { endpoint, requests } = await collector(t, undefined);
  const daemon = await startDaemon({ flags: [`--otlp-endpoint=${endpoint}`] }, t);
  const { actor } = await guarded(daemon, t);
  t.equal(await actor.open("/etc/secret"), EPERM);
  await eventually("it was sent", () => requests.length > 0, 5_000);
  t.ok((await daemon.metric("janusd_sink_queue_bytes", { sink: "otlp" })) > 0);
  t.equal(await actor.open("/etc/secret"), EPERM);
  await daemon.stop();
});
