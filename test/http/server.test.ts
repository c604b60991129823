import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import type { HealthReport } from "../../src/health.js";
import { HttpServer, type HttpServerOptions } from "../../src/http/server.js";
import { eventually } from "../support/daemon.js";

const report: HealthReport = { ready: true, live: true, checks: [{ name: "gate", ok: true, detail: "moved" }] };

interface Test {
  teardown(handler: () => Promise<void> | void): unknown;
}

async function serve(t: Test, rest: Partial<HttpServerOptions> = {}) {
  const server = new HttpServer({
    listen: { host: "127.0.0.1", port: 0 },
    report,
    about: { kernel: { audit: true } },
    metrics: { contentType: "text/plain; version=0.0.4", render: async () => "janusd_guards 7\n" },
    metricsMs: 0,
    onFailure: (error) => {
      throw error;
    },
    ...rest,
  });
  t.teardown(() => server.close());
  await server.open();
  const get = (path: string) => fetch(`http://127.0.0.1:${server.address.port}${path}`);
  return { server, get };
}

/** A connection on which nothing was asked yet. */
async function open(t: Test, port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  t.teardown(() => void socket.destroy());
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return socket;
}

t.test("ready and alive", async (t) => {
  const { get } = await serve(t);
  const ready = await get("/readyz");
  t.equal(ready.status, 200);
  t.match(await ready.json(), {
    status: "ready",
    checks: [...report.checks, { name: "loop", ok: true }],
    kernel: { audit: true },
  });
  t.same(await (await get("/livez")).json(), { status: "alive" });
});

t.test("each 503 says why", async (t) => {
  const { server, get } = await serve(t);
  const status = async (path: string) => (await get(path)).status;
  server.report({ ...report, ready: false, checks: [{ name: "ring", ok: false, detail: "stuck" }] });
  await eventually("it is not ready", async () => (await status("/readyz")) === 503);
  t.match(await (await get("/readyz")).json(), {
    status: "not ready",
    checks: [{ name: "ring", ok: false, detail: "stuck" }],
  });
  t.equal(await status("/livez"), 200, "not ready, but no reason for a restart");
  server.report({ ...report, live: false });
  await eventually("it is not alive", async () => (await status("/livez")) === 503);
  server.report(report);
  server.drain();
  await eventually("it is stopping", async () => (await status("/readyz")) === 503);
  t.match(await (await get("/readyz")).json(), { status: "stopping" });
});

t.test("an event loop that no longer reports is not ready, and in the end not alive", async (t) => {
  const { server, get } = await serve(t, { stale: { readyMs: 300, liveMs: 3_000 } });
  await eventually("it is not ready", async () => (await get("/readyz")).status === 503);
  t.match(await (await get("/readyz")).json(), { checks: [{}, { name: "loop", ok: false }] });
  t.equal((await get("/livez")).status, 200, "it may only be busy");
  await eventually("it is not alive", async () => (await get("/livez")).status === 503);
  server.report(report);
  await eventually("it is ready", async () => (await get("/readyz")).status === 200);
  t.equal((await get("/livez")).status, 200);
});

t.test("metrics come with their content type; nothing else is there", async (t) => {
  const { server, get } = await serve(t);
  const metrics = await get("/metrics?x=y");
  t.match(metrics.headers.get("content-type"), /^text\/plain; version=0\.0\.4/);
  t.equal(await metrics.text(), "janusd_guards 7\n");
  t.equal((await get("/")).status, 404);
  const posted = await fetch(`http://127.0.0.1:${server.address.port}/metrics`, { method: "POST", body: "x" });
  t.equal(posted.status, 405);
});

t.test("figures are made once for all who ask", async (t) => {
  let made = 0;
  const render = async () => {
    await sleep(50);
    return `made ${++made}\n`;
  };
  const { server, get } = await serve(t, { metrics: { contentType: "text/plain", render }, metricsMs: 2_000 });
  const pages = await Promise.all(Array.from({ length: 100 }, async () => (await get("/metrics")).text()));
  t.same([...new Set(pages)], ["made 1\n"]);
  const socket = await open(t, server.address.port);
  let text = "";
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  const ask = () => socket.write("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  ask();
  await eventually("it is there already", () => text.includes("made 1"));
  ask();
  await eventually("a connection waits for the next", () => text.includes("made 2"));
  t.equal(text.match(/made/g)?.length, 2);
});

t.test("figures that cannot be made are an error, each time", async (t) => {
  const render = () => Promise.reject(new Error("the engine does not run"));
  const { get } = await serve(t, { metrics: { contentType: "", render }, metricsMs: 60_000 });
  for (let time = 0; time < 2; ++time) {
    const metrics = await get("/metrics");
    t.equal(metrics.status, 500);
    t.equal(await metrics.text(), "the engine does not run\n");
  }
});

t.test("connections beyond 1,024 cost those that came first, not a probe", async (t) => {
  const { server, get } = await serve(t);
  const sockets: Socket[] = [];
  for (let count = 0; count < 1100; ++count) sockets.push(await open(t, server.address.port));
  t.equal((await get("/livez")).status, 200);
  const closed = () =>
    sockets.flatMap(({ destroyed, readableEnded }, index) => (destroyed || readableEnded ? [index] : []));
  for (const socket of sockets) socket.resume();
  await eventually("the first are closed", async () => closed().length >= 76);
  t.ok(closed().every((index) => index < 80));
});

t.test("a connection that asks nothing, or never comes to an end with it, is closed", async (t) => {
  const { server } = await serve(t);
  const [silent, dribbling] = [await open(t, server.address.port), await open(t, server.address.port)];
  const timer = setInterval(() => dribbling.write("x"), 500);
  t.teardown(() => clearInterval(timer));
  dribbling.write("GET /livez HTTP/1.1\r\nx: ");
  const start = performance.now();
  // What is written to one that is closed is answered by a reset, which is no failure here.
  const closed = (socket: Socket) =>
    new Promise((resolve) =>
      socket
        .resume()
        .on("error", () => undefined)
        .once("close", resolve),
    );
  await Promise.all([silent, dribbling].map(closed));
  t.ok(performance.now() - start > 4_000, "not before it had its time");
});

t.test("a thread that ends is started again, on the same port", async (t) => {
  const failures: Error[] = [];
  // What is no JSON is a fault that a request meets.
  const { get } = await serve(t, { about: { big: 1n }, onFailure: (error) => failures.push(error) });
  await t.rejects(get("/readyz"));
  await eventually("it answers again", () =>
    get("/livez").then(
      ({ ok }) => ok,
      () => false,
    ),
  );
  t.match(failures, [{ message: /BigInt/ }]);
});

t.test("an address that is taken is an error", async (t) => {
  const { server } = await serve(t);
  await t.rejects(serve(t, { listen: server.address }), {
    name: "ListenError",
    message: /^--http 127\.0\.0\.1:\d+: in use/,
  });
});
