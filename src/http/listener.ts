/**
 * The thread that answers HTTP: /livez, /readyz, /metrics.
 *
 * It knows what the event loop told it last. So a busy event loop makes nobody
 * wait who asks, and whoever asks keeps the event loop from nothing. Read-only,
 * and without anything that names a guarded path.
 *
 * node:http and nothing else, since a thread loads its own copy of each library.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
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
const waiting = new Set<ServerResponse>();
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
    for (const response of takeWaiting()) answerPage(response, page);
  } else {
    for (const response of takeWaiting()) answer(response, 500, "text/plain", `${message.reason}\n`);
  }
});

function takeWaiting(): ServerResponse[] {
  const all = [...waiting];
  waiting.clear();
  asked = false;
  return all;
}

function answer(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) }).end(body);
}

function answerJson(response: ServerResponse, status: number, body: object): void {
  answer(response, status, "application/json; charset=utf-8", JSON.stringify(body));
}

function answerPage(response: ServerResponse, page: Page): void {
  if (response.socket !== null) had.set(response.socket, page);
  answer(response, 200, start.contentType, page.bytes);
}

function livez(response: ServerResponse): void {
  const live = report.live && performance.now() - reportedAt < start.stale.liveMs;
  answerJson(response, live ? 200 : 503, { status: live ? "alive" : "stuck" });
}

function readyz(response: ServerResponse): void {
  const ms = Math.round(performance.now() - reportedAt);
  const loop = { name: "loop", ok: ms < start.stale.readyMs, detail: `reported ${ms} ms ago` };
  const status = draining ? "stopping" : report.ready && loop.ok ? "ready" : "not ready";
  answerJson(response, status === "ready" ? 200 : 503, { status, checks: [...report.checks, loop], ...start.about });
}

/**
 * A page is made once for all who ask meanwhile, and goes out once on each
 * connection: whoever asks again before the next is made waits for that one.
 */
function metrics(response: ServerResponse): void {
  const freshMs = page === undefined ? 0 : page.until - performance.now();
  if (page !== undefined && freshMs > 0 && response.socket !== null && had.get(response.socket) !== page) {
    answerPage(response, page);
    return;
  }
  waiting.add(response);
  if (!asked) setTimeout(() => tell({ kind: "figures" }), freshMs);
  asked = true;
  const patienceMs = Math.max(freshMs, 0) + FIGURES_MS;
  const timer = setTimeout(() => {
    if (waiting.delete(response)) answer(response, 503, "text/plain", "the event loop does not answer\n");
  }, patienceMs);
  response.once("close", () => {
    clearTimeout(timer);
    waiting.delete(response);
  });
}

const pages = new Map([
  ["/livez", livez],
  ["/readyz", readyz],
  ["/metrics", metrics],
]);

function serve(request: IncomingMessage, response: ServerResponse): void {
  const page = pages.get(request.url?.split("?", 1)[0] ?? "");
  if (page === undefined) answer(response, 404, "text/plain", "not found\n");
  else if (request.method !== "GET" && request.method !== "HEAD") answer(response, 405, "text/plain", "only GET\n");
  else page(response);
}

const connections = new Set<Socket>();
const server = createServer(
  { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS, connectionsCheckingInterval: LOOK_MS },
  serve,
);
server.keepAliveTimeout = IDLE_MS;
server.timeout = IDLE_MS;
server.on("connection", (socket) => {
  connections.add(socket);
  socket.once("close", () => connections.delete(socket));
  if (connections.size <= MAX_CONNECTIONS) return;
  const [first] = connections;
  first?.destroy();
});
server.on("error", ({ message, code }: NodeJS.ErrnoException) => tell({ kind: "refused", message, code }));
server.listen({ ...start.listen }, () => {
  const bound = server.address();
  const address =
    typeof bound === "object" && bound !== null ? { host: bound.address, port: bound.port } : start.listen;
  tell({ kind: "listening", address });
});
