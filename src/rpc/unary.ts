/** How a method is called, and how what it throws is told to the caller and to the log. */
import type { ServerUnaryCall, StatusObject, sendUnaryData } from "@grpc/grpc-js";
import { JanusdError } from "../errors.js";
import type { Log } from "../log.js";
import { statusOf } from "./status.js";

export function unary<Request, Response>(
  log: Log,
  method: string,
  work: (request: Request, call: ServerUnaryCall<Request, Response>) => Response | Promise<Response>,
): (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => Promise<void> {
  return async (call, callback) => {
    let response: Response;
    try {
      response = await work(call.request, call);
    } catch (thrown) {
      callback(failure(log, method, thrown));
      return;
    }
    callback(null, response);
  };
}

export function failure(log: Log, method: string, thrown: unknown): StatusObject {
  const error = JanusdError.from(thrown);
  const ours = error.data.kind === "internal" || error.data.kind === "system";
  if (ours) log.error({ method, err: error, ...error.data }, "request failed");
  else log.warn({ method, error: error.message, ...error.data }, "request refused");
  return statusOf(error);
}
