/** janus.v1.EventService: the events of the history and those that come. Changes nothing. */
import { Buffer } from "node:buffer";
import type { ServerWritableStream, ServiceDefinition, UntypedServiceImplementation } from "@grpc/grpc-js";
import { EventService, type WatchRequest } from "../gen/janus/v1/events_pb.js";
import type { Log } from "../log.js";
import { serviceDefinition } from "./definition.js";
import { parseWatch } from "./event-request.js";
import type { EventStreams } from "./event-streams.js";
import { statusOf } from "./status.js";
import { failure } from "./unary.js";

export interface EventServiceOptions {
  readonly streams: Pick<EventStreams, "subscribe">;
  readonly log: Log;
}

/** Its responses come encoded, since many subscribers get the same. */
export const eventServiceDefinition: ServiceDefinition = Object.fromEntries(
  Object.entries(serviceDefinition(EventService)).map(([name, method]) => [
    name,
    { ...method, responseSerialize: (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length) },
  ]),
);

export function eventService({ streams, log }: EventServiceOptions): UntypedServiceImplementation {
  return {
    watch: (call: ServerWritableStream<WatchRequest, Uint8Array>): void => {
      try {
        const end = streams.subscribe(parseWatch(call.request), {
          write: (response, taken) => void call.write(response, () => taken()),
          end: (error) => {
            if (error === undefined) call.end();
            else call.emit("error", statusOf(error));
          },
        });
        call.on("cancelled", end);
        call.on("close", end);
      } catch (thrown) {
        call.emit("error", failure(log, "Watch", thrown));
      }
    },
  };
}
