/**
 * The gRPC server: the guard, inspection and event services, standard health and reflection, over Unix
 * sockets, plaintext TCP or mutual TLS.
 */
import type { Socket } from "node:net";
import {
  experimental,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
  setLogger,
  status,
} from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation, service as healthDefinition } from "grpc-health-check";
import type { Address } from "../address.js";
import type { SocketLocks } from "../bind.js";
import type { AllowedClient } from "../config.js";
import { EventService } from "../gen/janus/v1/events_pb.js";
import { InspectionService } from "../gen/janus/v1/inspection_pb.js";
import { Janusd } from "../gen/janus_pb.js";
import type { Requester } from "../guard/audit.js";
import type { Peer } from "../native.js";
import { denial } from "./access.js";
import { reflectionDefinition, serviceDefinition } from "./definition.js";
import { type EventServiceOptions, eventService, eventServiceDefinition } from "./event-service.js";
import { type GuardServiceOptions, guardService } from "./guard-service.js";
import { type InspectionServiceOptions, inspectionService } from "./inspection-service.js";
import { Listener } from "./listener.js";
import type { Refusals } from "./refusals.js";
import { PeerContext } from "./requester.js";
import type { TlsMaterial } from "./tls-files.js";

/** How long a shutdown waits for calls in flight. Milliseconds. */
const DRAIN_MS = 1000;

export interface RpcServerOptions extends GuardServiceOptions, InspectionServiceOptions, EventServiceOptions {
  readonly registry: GuardServiceOptions["registry"] & InspectionServiceOptions["registry"];
  readonly listen: readonly Address[];
  /** Of Unix sockets. */
  readonly locks: SocketLocks;
  /** For TCP. Undefined: plaintext. */
  readonly tls: TlsMaterial | undefined;
  /** Of clients with a certificate. Empty: each that the CA signed commands. */
  readonly allowedClients: readonly AllowedClient[];
  /** Who connected to a Unix socket, by its descriptor. */
  readonly peer: (descriptor: number) => Peer;
  readonly refusals: Pick<Refusals, "note">;
}

export interface RpcServer {
  /** As in `listen`; with the port that was chosen, if 0 was asked for. */
  readonly addresses: readonly Address[];
  /** What health says for the server ("") and the service. NOT_SERVING until told. */
  setServing(serving: boolean): void;
  /** For connections from now on. */
  setTls(material: TlsMaterial): void;
  /** Refuses new calls, waits a moment for those in flight, ends the rest. Never rejects. */
  close(): Promise<void>;
}

/** Rejects as `listen` of bind.ts does. */
export async function openRpcServer(options: RpcServerOptions): Promise<RpcServer> {
  // It would write to standard error, past our log.
  setLogger({ error: (message: string) => options.log.debug({ from: "grpc-js" }, message) });
  const server = new Server();
  server.addService(serviceDefinition(Janusd), guardService(options));
  server.addService(serviceDefinition(InspectionService), inspectionService(options));
  server.addService(eventServiceDefinition, eventService(options));
  const health = new HealthImplementation();
  health.addToServer(server);
  const reflection = new ReflectionService({
    [Janusd.typeName]: reflectionDefinition(Janusd),
    [InspectionService.typeName]: reflectionDefinition(InspectionService),
    [EventService.typeName]: reflectionDefinition(EventService),
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

  const listeners: Listener[] = [];
  const close = async (): Promise<void> => {
    setServing(false);
    const drained = Promise.all(listeners.map((listener) => listener.stop()));
    // Its callback does not wait for the calls of connections that we gave it.
    server.tryShutdown(() => undefined);
    const timer = setTimeout(() => {
      server.forceShutdown();
      for (const listener of listeners) listener.end();
    }, DRAIN_MS);
    await drained;
    clearTimeout(timer);
  };
  try {
    for (const address of options.listen) {
      listeners.push(
        await Listener.open({
          address,
          locks: options.locks,
          tls: options.tls,
          peer: options.peer,
          onConnection: (socket, requester) => serve(server, socket, requester, options),
          onRefused: (reason, about) => options.refusals.note(reason, about),
        }),
      );
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    addresses: listeners.map(({ address }) => address),
    setServing,
    setTls: (material) => {
      for (const listener of listeners) listener.setTls(material);
    },
    close,
  };
}

/** By an injector of its own: so each of its calls knows whose it is. */
function serve(
  server: Server,
  socket: Socket,
  requester: Requester,
  { allowedClients, refusals }: Pick<RpcServerOptions, "allowedClients" | "refusals">,
): void {
  const context = new PeerContext(requester);
  const interceptor: ServerInterceptor = ({ path }, call) => {
    const details = denial(requester, path, allowedClients);
    if (details === undefined) return new PeerCall(call, context);
    refusals.note("not_allowed", { ...requester, method: path });
    return refused(call, { code: status.PERMISSION_DENIED, details });
  };
  const credentials = experimental.createServerCredentialsWithInterceptors(ServerCredentials.createInsecure(), [
    interceptor,
  ]);
  const injector = server.createConnectionInjector(credentials);
  socket.once("close", () => injector.destroy());
  injector.injectConnection(socket);
}

type Call = ConstructorParameters<typeof ServerInterceptingCall>[0];

class PeerCall extends ServerInterceptingCall {
  readonly #context: PeerContext;

  constructor(call: Call, context: PeerContext) {
    super(call);
    this.#context = context;
  }

  override getAuthContext(): PeerContext {
    return this.#context;
  }
}

/** Ends before its handler hears of it. */
function refused(call: Call, answer: { readonly code: status; readonly details: string }): ServerInterceptingCall {
  return new ServerInterceptingCall(call, {
    start: (next) => next({ onReceiveMetadata: () => call.sendStatus(answer) }),
  });
}
