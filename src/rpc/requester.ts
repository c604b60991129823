/** Who asks: what a connection tells of its other end, for the log of who changed what. */
import type { ServerInterceptingCallInterface } from "@grpc/grpc-js";
import type { Requester } from "../guard/audit.js";

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
