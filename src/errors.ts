/**
 * Everything that can go wrong with a request, as data: what to tell the
 * caller, and what to log. Transport-neutral; rpc/status.ts makes gRPC of it.
 */
import type { NativeError, NativeErrorCode } from "./native.js";

/** One field of a request that is wrong. */
export interface FieldViolation {
  /** Path to the field as in the protobuf message, for example `subject[0].deny[1]`. */
  readonly field: string;
  readonly description: string;
}

export type ErrorData =
  /** The request makes no sense, whatever the state of the node. */
  | { readonly kind: "invalid"; readonly violations: readonly FieldViolation[] }
  /** No such container runs on this node. */
  | { readonly kind: "not_found"; readonly container: string }
  /** Overtaken, while it waited, by another request about the same guard. */
  | { readonly kind: "aborted" }
  /** The daemon is stopping. */
  | { readonly kind: "unavailable" }
  /** This kernel or file system cannot do it. */
  | ({ readonly kind: "unsupported" } & NativeDetails)
  /** A limit of the kernel or of the configuration is met. */
  | ({ readonly kind: "exhausted" } & NativeDetails)
  /** A system call failed. */
  | ({ readonly kind: "system" } & NativeDetails)
  /** A bug of ours. */
  | { readonly kind: "internal" };

interface NativeDetails {
  readonly errno?: number;
  readonly operation?: string;
  readonly target?: string;
  readonly path?: string;
}

export class JanusdError extends Error {
  override readonly name = "JanusdError";

  /** Of the request, if it is about one; the message begins with it. */
  readonly field: string | undefined;

  constructor(
    message: string,
    readonly data: ErrorData,
    options?: ErrorOptions & { readonly field?: string },
  ) {
    super(message, options);
    this.field = options?.field;
  }

  static invalid(violations: readonly FieldViolation[], options?: ErrorOptions): JanusdError {
    const text = violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
    return new JanusdError(text, { kind: "invalid", violations }, options);
  }

  /** `cause` says what was searched. */
  static notFound(container: string, { cause }: { readonly cause: Error }): JanusdError {
    return new JanusdError(
      `no running container ${JSON.stringify(container)} on this node: ${cause.message}`,
      { kind: "not_found", container },
      { cause },
    );
  }

  /**
   * Whatever was thrown, as one of ours; the original stays as `cause`. A
   * native error that is about the request (NOT_FOUND, AMBIGUOUS, INVALID) is
   * better translated where the request is known; here it names no field.
   */
  static from(thrown: unknown): JanusdError {
    if (thrown instanceof JanusdError) return thrown;
    if (isNativeError(thrown)) return fromNative(thrown);
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new JanusdError(message, { kind: "internal" }, { cause: thrown });
  }
}

function fromNative(error: NativeError): JanusdError {
  const options = { cause: error };
  const { message } = error;
  const details = pick(error, ["errno", "operation", "target", "path"]);
  switch (error.code) {
    case "NOT_FOUND":
      return new JanusdError(message, { kind: "not_found", container: error.target ?? "" }, options);
    case "AMBIGUOUS":
    case "INVALID":
      return new JanusdError(message, { kind: "invalid", violations: [] }, options);
    case "UNSUPPORTED":
      return new JanusdError(message, { kind: "unsupported", ...details }, options);
    case "EXHAUSTED":
      return new JanusdError(message, { kind: "exhausted", ...details }, options);
    case "SYSTEM":
      return new JanusdError(message, { kind: "system", ...details }, options);
  }
}

const NATIVE_CODES: ReadonlySet<unknown> = new Set<NativeErrorCode>([
  "NOT_FOUND",
  "AMBIGUOUS",
  "INVALID",
  "UNSUPPORTED",
  "EXHAUSTED",
  "SYSTEM",
]);

/** Checks what the types promise: a system error of Node's also has a `code`, an `errno` and a `path`. */
export function isNativeError(thrown: unknown): thrown is NativeError {
  if (!(thrown instanceof Error) || !("code" in thrown) || !NATIVE_CODES.has(thrown.code)) return false;
  return (
    hasOptional(thrown, "errno", "number") &&
    hasOptional(thrown, "guardKey", "number") &&
    hasOptional(thrown, "subjectIndex", "number") &&
    hasOptional(thrown, "operation", "string") &&
    hasOptional(thrown, "target", "string") &&
    hasOptional(thrown, "path", "string")
  );
}

function hasOptional(object: object, key: string, type: "number" | "string"): boolean {
  const value: unknown = Reflect.get(object, key);
  return value === undefined || typeof value === type;
}

function pick<T extends object, K extends keyof T>(object: T, keys: readonly K[]): Pick<T, K> {
  const picked: Partial<T> = {};
  for (const key of keys) if (object[key] !== undefined) picked[key] = object[key];
  return picked as Pick<T, K>;
}

/** Whether it is a system call's, that failed so: `ENOENT`. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
