/**
 * The three methods of janus.Janusd: when the answer goes out, what it says is
 * done.
 */
import { create } from "@bufbuild/protobuf";
import type { ServerWritableStream, UntypedServiceImplementation } from "@grpc/grpc-js";
import { JanusdError } from "../errors.js";
import {
  type Empty,
  EmptySchema,
  GuardMode,
  type JanusdConfig,
  type JanusdHandle,
  JanusdHandleSchema,
} from "../gen/janus_pb.js";
import type { GuardIntake } from "../guard/intake.js";
import type { GuardHandle, GuardRegistry } from "../guard/registry.js";
import type { Log } from "../log.js";
import { requesterOf } from "./requester.js";
import { failure, unary } from "./unary.js";

export interface GuardServiceOptions {
  readonly intake: Pick<GuardIntake, "create" | "destroy">;
  readonly registry: Pick<GuardRegistry, "list">;
  readonly log: Log;
}

/** What is left of a client's deadline for the way of our answer. Milliseconds. */
const ANSWER_MS = 250;

export function guardService({ intake, registry, log }: GuardServiceOptions): UntypedServiceImplementation {
  return {
    createGuard: unary(log, "CreateGuard", async (config: JanusdConfig, call): Promise<JanusdHandle> => {
      const cancelled = new AbortController();
      call.on("cancelled", () => cancelled.abort(new JanusdError("the client gave up", { kind: "aborted" })));
      const guard = await intake.create(config, {
        requester: requesterOf(call),
        signal: cancelled.signal,
        patienceMs: Number(call.getDeadline()) - Date.now() - ANSWER_MS,
      });
      return messageOf(guard);
    }),

    destroyGuard: unary(log, "DestroyGuard", (config: JanusdConfig, call): Empty => {
      intake.destroy(config, requesterOf(call));
      return create(EmptySchema);
    }),

    getGuardState: (call: ServerWritableStream<Empty, JanusdHandle>): void => {
      try {
        for (const guard of registry.list()) if (guard.kind === undefined) call.write(stateOf(guard));
        call.end();
      } catch (thrown) {
        call.emit("error", failure(log, "GetGuardState", thrown));
      }
    },
  };
}

function messageOf(guard: GuardHandle): JanusdHandle {
  return create(JanusdHandleSchema, {
    nodeName: guard.nodeName,
    podName: guard.podName,
    pid: [...guard.pids],
    processEventfd: [...guard.subjectIds],
    name: guard.name,
    namespace: guard.namespace,
    cid: [...guard.containerIds],
    mode: guard.mode === "audit" ? GuardMode.AUDIT : GuardMode.ENFORCE,
  });
}

/**
 * Of no guard of a resource: the controller looks for `podName` alone, so it would take such a guard for one of its own,
 * and never make that.
 *
 * It leaves a pod that it finds be.
 * So a guard that lost a container is listed without: its rest is enforced, but
 * the pod has to be guarded anew, or the container's successor never would be.
 */
function stateOf(guard: GuardHandle): JanusdHandle {
  return messageOf(guard.complete ? guard : { ...guard, podName: "" });
}
