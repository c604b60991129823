/** Our errors as gRPC statuses. */
import { Buffer } from "node:buffer";
import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import type { ErrorData, FieldViolation, JanusdError } from "../errors.js";
import { BadRequestSchema } from "../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../gen/google/rpc/status_pb.js";

/** Stands for what was cut off. */
const ELLIPSIS = "...";

/** Where grpc libraries look for a google.rpc.Status. */
const DETAILS_KEY = "grpc-status-details-bin";

const CODES: Readonly<Record<ErrorData["kind"], status>> = {
  invalid: status.INVALID_ARGUMENT,
  not_found: status.NOT_FOUND,
  aborted: status.ABORTED,
  unavailable: status.UNAVAILABLE,
  unsupported: status.FAILED_PRECONDITION,
  exhausted: status.RESOURCE_EXHAUSTED,
  system: status.INTERNAL,
  internal: status.INTERNAL,
};

/**
 * HTTP/2 peers limit the size of all trailers, often to 8 KiB: what doesn't fit would lose the whole answer. As sent:
 * the message is percent-encoded, the rest is base64. Bytes.
 */
const MESSAGE_LIMIT = 2048;
const DETAILS_LIMIT = 3072; // 4096 in base64
const FIELD_LIMIT = 256;
const DESCRIPTION_LIMIT = 1024;

export function statusOf(error: JanusdError): StatusObject {
  const code = CODES[error.data.kind];
  const metadata = new Metadata();
  let details = error.message;
  let leftOut = 0;
  if (error.data.kind === "invalid") {
    const violations = error.data.violations.map(({ field, description }) => ({
      field: cut(field, FIELD_LIMIT),
      description: cut(description, DESCRIPTION_LIMIT),
    }));
    const fitting = violations.slice(0, fitIn(DETAILS_LIMIT, violations));
    if (fitting.length < violations.length) {
      leftOut = violations.length - fitting.length;
      details = fitting.map(({ field, description }) => `${field}: ${description}`).join("; ");
    }
    const badRequest = create(BadRequestSchema, { fieldViolations: [...fitting] });
    const rich = create(StatusSchema, {
      code,
      message: "invalid request",
      details: [anyPack(BadRequestSchema, badRequest)],
    });
    metadata.set(DETAILS_KEY, Buffer.from(toBinary(StatusSchema, rich)));
  }
  return { code, details: cut(details, MESSAGE_LIMIT, leftOut > 0 ? `; and ${leftOut} more` : ""), metadata };
}

/** As much of the text as has so many bytes when it is percent-encoded (gRPC over HTTP/2, Status-Message). */
function cut(text: string, limit: number, end = ""): string {
  let left = limit - end.length - ELLIPSIS.length;
  let kept = "";
  for (const character of text) {
    const plain = character >= " " && character <= "~" && character !== "%";
    left -= plain ? 1 : 3 * Buffer.byteLength(character);
    if (left < 0) return `${kept}${ELLIPSIS}${end}`;
    kept += character;
  }
  return `${kept}${end}`;
}

/** How many of the violations fit in so many bytes; one does in any case. */
function fitIn(bytes: number, violations: readonly FieldViolation[]): number {
  let left = bytes;
  const first = violations.findIndex(({ field, description }) => {
    left -= Buffer.byteLength(field) + Buffer.byteLength(description) + 8;
    return left < 0;
  });
  return first === -1 ? violations.length : Math.max(first, 1);
}
