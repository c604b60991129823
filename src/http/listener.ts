/**
 * The thread that answers HTTP: /livez, /readyz, /metrics.
 *
 * It knows what the event loop told it last. So a busy event loop makes nobody
 * wait who asks, and whoever asks keeps the event loop from nothing. Read-only,
 * and without anything that names a guarded path.
 */
import type { Socket } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import { type FastifyError, type FastifyReply, fastify } from "fastify";
import type { FromListener, ListenerStart, ToListener } from "./messages.js";

/** Bounds what others can make us hold. One more costs whoever came first his: a probe takes milliseconds. */
const MAX_CONNECTIONS = 1024;
/** A request takes so long to arrive, at most. Milliseconds. */
const REQUEST_MS = 5_000;
/** A connection on which nothing happens is closed after so long. Milliseconds. */
const IDLE_MS = 5_000;
/** How often connections are looked at for that. Milliseconds. */
const LOOK_MS = 1_000;

/** Whoever wants figures waits for the event loop for so long. Milliseconds. */
const FIGURES_MS = 5_000;

if (parentPort === null) throw new Error("not a thread");
const port = parentPort;
const start: ListenerStart = workerData;
const tell = (message: FromListener): void => port.postMessage(message);

let report = start.report;
let reportedAt = performance.now();
let draining = false;
interface Page {
  readonly bytes: Buffer;
  readonly until: number;
}
let page: Page | undefined;
/** The event loop makes one, or is going to be asked for it. */
let asked = false;
const waiting = new Set<FastifyReply>();
/** The last page that went out on a connection. */
const had = new WeakMap<Socket, Page>();

port.on("message", (message: ToListener) => {
  if (message.kind === "report") {
    report = message.report;
    reportedAt = performance.now();
  } else if (message.kind === "drain") {
    draining = true;
  } else if (message.kind === "figures") {
    page = { bytes: Buffer.from(message.page), until: performance.now() + start.metricsMs };
    for (const reply of takeWaiting()) answerPage(reply, page);
  } else {
    for (const reply of takeWaiting()) answerText(reply, 500, `${message.reason}\n`);
  }
});

function takeWaiting(): FastifyReply[] {
  const all = [...waiting];
  waiting.clear();
  asked = false;
  return all;
}

function answerText(reply: FastifyReply, status: number, text: string): FastifyReply {
  return reply.code(status).type("text/plain").send(text);
}

function answerPage(reply: FastifyReply, page: Page): FastifyReply {
  had.set(reply.request.raw.socket, page);
  return reply.type(start.contentType).send(page.bytes);
}

const server = fastify({
  connectionTimeout: IDLE_MS,
  keepAliveTimeout: IDLE_MS,
  requestTimeout: REQUEST_MS,
  http: { headersTimeout: REQUEST_MS, connectionsCheckingInterval: LOOK_MS },
});

server.get("/livez", (_request, reply) => {
  const live = report.live && performance.now() - reportedAt < start.stale.liveMs;
  return reply.code(live ? 200 : 503).send({ status: live ? "alive" : "stuck" });
});

server.get("/readyz", (_request, reply) => {
  const ms = Math.round(performance.now() - reportedAt);
  const loop = { name: "loop", ok: ms < start.stale.readyMs, detail: `reported ${ms} ms ago` };
  const status = draining ? "stopping" : report.ready && loop.ok ? "ready" : "not ready";
  return reply.code(status === "ready" ? 200 : 503).send({ status, checks: [...report.checks, loop], ...start.about });
});

/**
 * A page is made once for all who ask meanwhile, and goes out once on each
 * connection: whoever asks again before the next is made waits for that one.
 */
server.get("/metrics", (request, reply) => {
  const freshMs = page === undefined ? 0 : Math.max(0, page.until - performance.now());
  if (page !== undefined && freshMs > 0 && had.get(request.raw.socket) !== page) {
    answerPage(reply, page);
    return;
  }
  waiting.add(reply);
  if (!asked) setTimeout(() => tell({ kind: "figures" }), freshMs);
  asked = true;
  const patienceMs = freshMs + FIGURES_MS;
  const timer = setTimeout(() => {
    if (waiting.delete(reply)) answerText(reply, 503, "the event loop does not answer\n");
  }, patienceMs);
  reply.raw.once("close", () => {
    clearTimeout(timer);
    waiting.delete(reply);
  });
});

server.setNotFoundHandler((request, reply) =>
  server.hasRoute({ method: "GET", url: request.url.split("?", 1)[0] ?? "" })
    ? answerText(reply, 405, "only GET\n")
    : answerText(reply, 404, "not found\n"),
);

// A request that makes no sense is answered. A fault of ours ends the thread, which is told and starts it again.
server.setErrorHandler((error: FastifyError, _request, reply) => {
  if (error.statusCode !== undefined && error.statusCode < 500) {
    answerText(reply, error.statusCode, `${error.message}\n`);
    return;
  }
  setImmediate(() => {
    throw error;
  });
});

const connections = new Set<Socket>();
server.server.on("connection", (socket) => {
  connections.add(socket);
  socket.once("close", () => connections.delete(socket));
  if (connections.size <= MAX_CONNECTIONS) return;
  const [first] = connections;
  first?.destroy();
});

try {
  await server.listen({ ...start.listen });
  const bound = server.server.address();
  const address =
    typeof bound === "object" && bound !== null ? { host: bound.address, port: bound.port } : start.listen;
  tell({ kind: "listening", address });
} catch (error) {
  const { message, code }: NodeJS.ErrnoException = error instanceof Error ? error : new Error(String(error));
  tell({ kind: "refused", message, code });
}
