/**
 * The daemon's gRPC services as a caller sees it, and its errors as people do.
 */
import type { DescMethodServerStreaming, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import {
  type CallOptions,
  type ChannelCredentials,
  Client,
  type ClientReadableStream,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import type { FieldViolation } from "../errors.js";
import { BadRequestSchema } from "../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../gen/google/rpc/status_pb.js";
import {
  EventService,
  type WatchItem,
  type WatchRequestSchema,
  type WatchResponse,
} from "../gen/janus/v1/events_pb.js";
import {
  type Container,
  type ExplainRequestSchema,
  type ExplainResponse,
  type GetStatusResponse,
  type GuardDetails,
  InspectionService,
  type ListGuardsRequestSchema,
  type Process,
  type RehearseRequestSchema,
  type RehearseResponse,
} from "../gen/janus/v1/inspection_pb.js";
import { Janusd, type JanusdConfigSchema, type JanusdHandle } from "../gen/janus_pb.js";

/** Twice what the controller waits. */
const DEADLINE_MS = 10_000;

export class RpcError extends Error {
  override readonly name = "RpcError";

  constructor(
    /** gRPC status, as `INVALID_ARGUMENT`. */
    readonly code: string,
    message: string,
    readonly violations: readonly FieldViolation[],
    options: ErrorOptions,
  ) {
    super(message, options);
  }

  static from(error: ServiceError): RpcError {
    const code = status[error.code] ?? `status ${error.code}`;
    return new RpcError(code, error.details, violationsOf(error.metadata), { cause: error });
  }
}

/** Every call throws RpcError, also when nobody answers in time. */
export class JanusClient {
  readonly #client: Client;
  readonly #diagnose: () => Promise<string | undefined>;
  readonly #deadlineMs: number;

  /** `diagnose` says why nobody answers, if it knows. A call that isn't answered after `deadlineMs` fails. */
  constructor(
    address: string,
    credentials: ChannelCredentials,
    diagnose: () => Promise<string | undefined> = async () => undefined,
    deadlineMs = DEADLINE_MS,
  ) {
    // A guard as it was applied may be as large as a request, and comes with more.
    this.#client = new Client(address, credentials, { "grpc.max_receive_message_length": -1 });
    this.#diagnose = diagnose;
    this.#deadlineMs = deadlineMs;
  }

  createGuard(guard: MessageInitShape<typeof JanusdConfigSchema>): Promise<JanusdHandle> {
    return this.#unary(Janusd.method.createGuard, guard);
  }

  async destroyGuard(guard: MessageInitShape<typeof JanusdConfigSchema>): Promise<void> {
    await this.#unary(Janusd.method.destroyGuard, guard);
  }

  getGuardState(): Promise<JanusdHandle[]> {
    return this.#stream(Janusd.method.getGuardState, {});
  }

  async listContainers(all: boolean): Promise<Container[]> {
    return (await this.#unary(InspectionService.method.listContainers, { all })).containers;
  }

  /** `container` as in a guard's `cid`. */
  async listProcesses(container: string): Promise<Process[]> {
    return (await this.#unary(InspectionService.method.listProcesses, { container })).processes;
  }

  explain(question: MessageInitShape<typeof ExplainRequestSchema>): Promise<ExplainResponse> {
    return this.#unary(InspectionService.method.explain, question);
  }

  /** Held or pending; each of the fields that is given must fit. */
  async listGuards(filter: MessageInitShape<typeof ListGuardsRequestSchema>): Promise<GuardDetails[]> {
    const responses = await this.#stream(InspectionService.method.listGuards, filter);
    return responses.flatMap(({ guard }) => guard ?? []);
  }

  /** Which recorded events would have been answered otherwise under the guard. */
  rehearse(request: MessageInitShape<typeof RehearseRequestSchema>): Promise<RehearseResponse> {
    return this.#unary(InspectionService.method.rehearse, request);
  }

  getStatus(): Promise<GetStatusResponse> {
    return this.#unary(InspectionService.method.getStatus, {});
  }

  /** As they come, until the stream or `signal` ends it. What whoever asks doesn't take stays with the daemon. */
  async *watch(
    request: MessageInitShape<typeof WatchRequestSchema>,
    signal?: AbortSignal,
  ): AsyncGenerator<readonly WatchItem[], void> {
    const call = this.#open(EventService.method.watch, request, {});
    const cancel = () => call.cancel();
    signal?.addEventListener("abort", cancel);
    const responses: AsyncIterable<WatchResponse> = call;
    try {
      for await (const { items } of responses) yield items;
    } catch (error) {
      if (signal?.aborted) return;
      throw isServiceError(error) ? await this.#explain(error) : error;
    } finally {
      signal?.removeEventListener("abort", cancel);
      cancel();
    }
  }

  close(): void {
    this.#client.close();
  }

  async #explain(error: ServiceError): Promise<RpcError> {
    const failed = RpcError.from(error);
    const unanswered = error.code === status.UNAVAILABLE || error.code === status.DEADLINE_EXCEEDED;
    const reason = unanswered ? await this.#diagnose() : undefined;
    return reason === undefined ? failed : new RpcError(failed.code, reason, [], { cause: error });
  }

  #unary<I extends DescMethodUnary["input"], O extends DescMethodUnary["output"]>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        pathOf(method),
        (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
        (bytes) => fromBinary(method.output, bytes),
        create(method.input, request),
        new Metadata(),
        { deadline: Date.now() + this.#deadlineMs },
        (error, response) => {
          if (error !== null) this.#explain(error).then(reject, reject);
          else if (response !== undefined) resolve(response);
        },
      );
    });
  }

  #stream<I extends DescMethodServerStreaming["input"], O extends DescMethodServerStreaming["output"]>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>[]> {
    return new Promise((resolve, reject) => {
      const responses: MessageShape<O>[] = [];
      let failed = false;
      this.#open(method, request, { deadline: Date.now() + this.#deadlineMs })
        .on("data", (response: MessageShape<O>) => responses.push(response))
        .on("error", (error: ServiceError) => {
          failed = true;
          this.#explain(error).then(reject, reject);
        })
        .on("end", () => {
          if (!failed) resolve(responses);
        });
    });
  }

  #open<I extends DescMethodServerStreaming["input"], O extends DescMethodServerStreaming["output"]>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions,
  ): ClientReadableStream<MessageShape<O>> {
    return this.#client.makeServerStreamRequest(
      pathOf(method),
      (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
      (bytes) => fromBinary(method.output, bytes),
      create(method.input, request),
      new Metadata(),
      options,
    );
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error && "metadata" in error;
}

function pathOf(method: DescMethodUnary | DescMethodServerStreaming): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** google.rpc.BadRequest, as gRPC carries it. Details that can't be read are no reason to hide the error. */
function violationsOf(metadata: Metadata): FieldViolation[] {
  const [bytes] = metadata.get("grpc-status-details-bin");
  if (!(bytes instanceof Uint8Array)) return [];
  try {
    return fromBinary(StatusSchema, bytes).details.flatMap(
      (detail) => anyUnpack(detail, BadRequestSchema)?.fieldViolations ?? [],
    );
  } catch {
    return [];
  }
}
