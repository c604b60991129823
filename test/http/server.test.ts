import t from "tap";
import type { HealthReport } from "../../src/health.js";
import { openHttpServer } from "../../src/http/server.js";

const report: HealthReport = { ready: true, live: true, checks: [{ name: "gate", ok: true, detail: "moved" }] };

async function serve(t: { teardown(handler: () => Promise<void>): unknown }, health: () => HealthReport) {
  const server = await openHttpServer({
    listen: { host: "127.0.0.1", port: 0 },
    health,
    about: { kernel: { audit: true } },
    metrics: { contentType: "text/plain; version=0.0.4", render: async () => "janusd_guards 7\n" },
  });
  t.teardown(() => server.close());
  const get = (path: string) => fetch(`http://127.0.0.1:${server.address.port}${path}`);
  return { server, get };
}

t.test("ready and alive", async (t) => {
  const { get } = await serve(t, () => report);
  const ready = await get("/readyz");
  t.equal(ready.status, 200);
  t.same(await ready.json(), { status: "ready", checks: report.checks, kernel: { audit: true } });
  t.same(await (await get("/livez")).json(), { status: "alive" });
});

t.test("each 503 says why", async (t) => {
  let now: HealthReport = { ...report, ready: false, checks: [{ name: "ring", ok: false, detail: "stuck" }] };
  const { server, get } = await serve(t, () => now);
  const ready = await get("/readyz");
  t.equal(ready.status, 503);
  t.match(await ready.json(), { status: "not ready", checks: [{ name: "ring", ok: false, detail: "stuck" }] });
  t.equal((await get("/livez")).status, 200, "not ready, but no reason for a restart");
  now = { ...report, live: false };
  t.equal((await get("/livez")).status, 503);
  now = report;
  server.drain();
  const stopping = await get("/readyz");
  t.equal(stopping.status, 503);
  t.match(await stopping.json(), { status: "stopping" });
});

t.test("metrics come with their content type; nothing else is there", async (t) => {
  const { get } = await serve(t, () => report);
  const metrics = await get("/metrics");
  t.match(metrics.headers.get("content-type"), /^text\/plain; version=0\.0\.4/);
  t.equal(await metrics.text(), "janusd_guards 7\n");
  t.equal((await get("/")).status, 404);
});

t.test("an address that is taken is an error", async (t) => {
  const { server } = await serve(t, () => report);
  const again = openHttpServer({
    listen: server.address,
    health: () => report,
    about: {},
    metrics: { contentType: "", render: async () => "" },
  });
  await t.rejects(again, { name: "ListenError", message: /^--http 127\.0\.0\.1:\d+: in use/ });
});
