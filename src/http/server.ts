/**
 * What orchestrators and Prometheus ask for: /livez, /readyz, /metrics.
 * Read-only, and without anything that names a guarded path.
 */
import { fastify } from "fastify";
import type { TcpAddress } from "../address.js";
import { bindTcp, boundTo } from "../bind.js";
import type { HealthReport } from "../health.js";
import type { Metrics } from "../metrics.js";

/** Bounds what others can make us hold. So many that filling it up to keep a probe out takes some effort. */
const MAX_CONNECTIONS = 1024;
/** A request takes so long to arrive, at most. Milliseconds. */
const REQUEST_MS = 5_000;
/** A connection on which nothing happens is closed after so long. Milliseconds. */
const IDLE_MS = 5_000;

export interface HttpServerOptions {
  readonly listen: TcpAddress;
  readonly health: () => HealthReport;
  /** Facts for /readyz beside the checks: what this kernel can do. */
  readonly about: object;
  readonly metrics: Pick<Metrics, "render" | "contentType">;
}

export interface HttpServer {
  /** With the port that was chosen, if 0 was asked for. */
  readonly address: TcpAddress;
  /** From now on /readyz says no, whatever the checks say. */
  drain(): void;
  close(): Promise<void>;
}

/** Rejects with ListenError if the address cannot be had. */
export async function openHttpServer({ listen, health, about, metrics }: HttpServerOptions): Promise<HttpServer> {
  // Whoever reaches the address may open connections: they are few, and none stays for nothing.
  const server = fastify({
    forceCloseConnections: true,
    connectionTimeout: IDLE_MS,
    requestTimeout: REQUEST_MS,
    keepAliveTimeout: IDLE_MS,
  });
  server.server.maxConnections = MAX_CONNECTIONS;
  let draining = false;

  server.get("/livez", (_request, reply) => {
    const { live } = health();
    return reply.code(live ? 200 : 503).send({ status: live ? "alive" : "stuck" });
  });
  server.get("/readyz", (_request, reply) => {
    const { ready, checks } = health();
    const status = draining ? "stopping" : ready ? "ready" : "not ready";
    return reply.code(status === "ready" ? 200 : 503).send({ status, checks, ...about });
  });
  server.get("/metrics", async (_request, reply) => reply.type(metrics.contentType).send(await metrics.render()));

  await bindTcp(listen, "--http", (address) => server.listen({ ...address }));
  return {
    address: boundTo(server.server, listen),
    drain: () => {
      draining = true;
    },
    close: () => server.close(),
  };
}
