/** Who asks: what a connection tells of its other end, for the log of who changed what. */
import type { ServerInterceptingCallInterface } from "@grpc/grpc-js";

export interface Requester {
  /** `address:port`; `unix` for a Unix socket. */
  readonly peer: string;
  /** Of the process that connected to a Unix socket: the kernel's word. Its number is the daemon's PID namespace's. */
  readonly uid?: number;
  readonly pid?: number;
  /** What the client's certificate says that it is: common name, then subject alternative names. Verified. */
  readonly names?: readonly string[];
}

type AuthContext = ReturnType<ServerInterceptingCallInterface["getAuthContext"]>;

/** What gRPC hands on with each call of a connection. */
export class PeerContext implements AuthContext {
  readonly transportSecurityType?: string;

  constructor(readonly requester: Requester) {
    if (requester.names !== undefined) this.transportSecurityType = "ssl";
  }
}

/** Of a call that arrived by one of our listeners: all do. */
export function requesterOf(call: Pick<ServerInterceptingCallInterface, "getAuthContext" | "getPeer">): Requester {
  const context = call.getAuthContext();
  return context instanceof PeerContext ? context.requester : { peer: call.getPeer() };
}
