/**
 * The gRPC server: the guard and inspection services, standard health and reflection, over
 * plaintext or mutual TLS.
 */
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { Server, ServerCredentials, setLogger } from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation, service as healthDefinition } from "grpc-health-check";
import { type Address, formatAddress, type TlsFiles } from "../config.js";
import { InspectionService } from "../gen/janus/v1/inspection_pb.js";
import { Janusd } from "../gen/janus_pb.js";
import { reflectionDefinition, serviceDefinition } from "./definition.js";
import { type GuardServiceOptions, guardService } from "./guard-service.js";
import { type InspectionServiceOptions, inspectionService } from "./inspection-service.js";

/** How long a shutdown waits for calls in flight. Milliseconds. */
const DRAIN_MS = 1000;

export interface RpcServerOptions extends GuardServiceOptions, InspectionServiceOptions {
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
  // It would write to standard error, past our log.
  setLogger({ error: (message: string) => options.log.debug({ from: "grpc-js" }, message) });
  const server = new Server();
  server.addService(serviceDefinition(Janusd), guardService(options));
  server.addService(serviceDefinition(InspectionService), inspectionService(options));
  const health = new HealthImplementation();
  health.addToServer(server);
  const reflection = new ReflectionService({
    [Janusd.typeName]: reflectionDefinition(Janusd),
    [InspectionService.typeName]: reflectionDefinition(InspectionService),
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
  try {
    const [ca, cert, key] = [readFileSync(tls.ca), readFileSync(tls.cert), readFileSync(tls.key)];
    // grpc-js looks at them only when it binds.
    createSecureContext({ ca, cert, key });
    return ServerCredentials.createSsl(ca, [{ cert_chain: cert, private_key: key }], true);
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`cannot use the TLS files ${tls.ca}, ${tls.cert}, ${tls.key}: ${problem}`, { cause });
  }
}
