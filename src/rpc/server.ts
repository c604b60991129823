/**
 * The gRPC server: the guard service, standard health and reflection, over
 * plaintext or mutual TLS.
 */
import { readFileSync } from "node:fs";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation, service as healthDefinition } from "grpc-health-check";
import { type Address, formatAddress, type TlsFiles } from "../config.js";
import { Janusd } from "../gen/janus_pb.js";
import { reflectionDefinition, serviceDefinition } from "./definition.js";
import { type GuardServiceOptions, guardService } from "./guard-service.js";

/** How long a shutdown waits for calls in flight. Milliseconds. */
const DRAIN_MS = 1000;

export interface RpcServerOptions extends GuardServiceOptions {
  readonly listen: Address;
  readonly tls: TlsFiles | undefined;
}

export interface RpcServer {
  /** With the port that was chosen, if 0 was asked for. */
  readonly address: Address;
  /** What health says for the server ("") and the service. NOT_SERVING until told. */
  setServing(serving: boolean): void;
  /** Refuses new calls, waits a moment for those in flight, ends the rest. Never rejects. */
  close(): Promise<void>;
}

/** Rejects if the address cannot be had or the TLS files cannot be used. */
export async function openRpcServer(options: RpcServerOptions): Promise<RpcServer> {
  const server = new Server();
  server.addService(serviceDefinition(Janusd), guardService(options));
  const health = new HealthImplementation();
  health.addToServer(server);
  const reflection = new ReflectionService({
    [Janusd.typeName]: reflectionDefinition(Janusd),
    ...Object.fromEntries(Object.values(healthDefinition).map(({ path, requestType }) => [path, requestType])),
  });
  reflection.addToServer(server);

  let serving: boolean | undefined;
  const setServing = (now: boolean): void => {
    if (now === serving) return;
    serving = now;
    for (const name of ["", Janusd.typeName]) health.setStatus(name, now ? "SERVING" : "NOT_SERVING");
  };
  setServing(false);

  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(formatAddress(options.listen), credentialsOf(options.tls), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return {
    address: { host: options.listen.host, port },
    setServing,
    close: async () => {
      setServing(false);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => {
          server.forceShutdown();
          resolve();
        }, DRAIN_MS);
        server.tryShutdown(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    },
  };
}

function credentialsOf(tls: TlsFiles | undefined): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const pair = { cert_chain: readFileSync(tls.cert), private_key: readFileSync(tls.key) };
  return ServerCredentials.createSsl(readFileSync(tls.ca), [pair], true);
}
