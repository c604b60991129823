/**
 * Events as OpenTelemetry log records, by OTLP over HTTP (JSON). The SDK batches and sends; how much may wait, and
 * what was lost, is kept here. The only file that knows OpenTelemetry.
 */
import { type AnyValue, type HrTime, type Logger, SeverityNumber } from "@opentelemetry/api";
import { type ExportResult, ExportResultCode } from "@opentelemetry/core";
import { OTLPLogExporter } from "@opentelemetry/exporter-logs-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  BatchLogRecordProcessor,
  LoggerProvider,
  type LogRecordExporter,
  type ReadableLogRecord,
} from "@opentelemetry/sdk-logs";
import type { FileEventView } from "../event/decode.js";
import { FLAG, RESPONSES } from "../event/layout.js";
import type { Sink } from "../event/sink.js";
import { eventName, fileType, newPathText, oldPathText, responseName } from "../log-format.js";
import { type Deniers, guardName, guardNames, type SubjectContext } from "../subject.js";

/** Records that wait for the collector; further ones are dropped. */
const QUEUE_LIMIT = 32_768;
const BATCH = 2_048;
const BATCH_DELAY_MS = 500;
/** Of one batch, its repetitions included. */
const EXPORT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 1_000;

export interface OtlpSinkOptions {
  /** Of the collector: `/v1/logs` is added. */
  readonly endpoint: URL;
  readonly node: string;
  readonly version: string;
}

export class OtlpSink implements Sink {
  readonly name = "otlp";
  readonly drops = { queue_full: 0, rejected: 0, shutdown: 0 };
  readonly #provider: LoggerProvider;
  readonly #logger: Logger;
  /** Bytes of each record that waits, the oldest first. */
  #sizes: number[] = [];
  #queueBytes = 0;

  constructor({ endpoint, node, version }: OtlpSinkOptions) {
    const url = new URL(`${endpoint.pathname.replace(/\/$/, "")}/v1/logs`, endpoint).href;
    // One batch at a time: they arrive in order.
    const exporter = new OTLPLogExporter({ url, timeoutMillis: EXPORT_TIMEOUT_MS, concurrencyLimit: 1 });
    const processor = new BatchLogRecordProcessor({
      exporter: counting(exporter, (records, sent) => this.#leave(records, sent)),
      maxQueueSize: QUEUE_LIMIT,
      maxExportBatchSize: BATCH,
      scheduledDelayMillis: BATCH_DELAY_MS,
      exportTimeoutMillis: EXPORT_TIMEOUT_MS,
    });
    const resource = resourceFromAttributes({
      "service.name": "janusd",
      "service.version": version,
      "k8s.node.name": node,
    });
    this.#provider = new LoggerProvider({ resource, processors: [processor] });
    this.#logger = this.#provider.getLogger("janusd", version);
  }

  get dropped(): number {
    return Object.values(this.drops).reduce((sum, count) => sum + count, 0);
  }

  get queueBytes(): number {
    return this.#queueBytes;
  }

  write(view: FileEventView, subject: SubjectContext, deniers: Deniers): void {
    if (this.#sizes.length >= QUEUE_LIMIT) {
      this.drops.queue_full++;
      return;
    }
    this.#sizes.push(view.size);
    this.#queueBytes += view.size;
    const allowed = RESPONSES[view.response] === "allow";
    this.#logger.emit({
      eventName: "janusd.file",
      timestamp: hrTime(view.timeNs),
      severityNumber: allowed ? SeverityNumber.INFO : SeverityNumber.WARN,
      severityText: allowed ? "INFO" : "WARN",
      body: `${responseName(view)} ${eventName(view)} ${view.pathText}`,
      attributes: attributesOf(view, subject, deniers),
    });
  }

  flush(): void {
    // The SDK's processor has a timer of its own.
  }

  async close(): Promise<void> {
    const timeout = new Promise((resolve) => setTimeout(resolve, CLOSE_TIMEOUT_MS).unref());
    // What could not be sent is counted, whatever it says.
    await Promise.race([this.#provider.shutdown().catch(() => undefined), timeout]);
    this.drops.shutdown += this.#sizes.length;
    this.#sizes = [];
    this.#queueBytes = 0;
  }

  #leave(records: number, sent: boolean): void {
    const gone = this.#sizes.splice(0, records);
    for (const size of gone) this.#queueBytes -= size;
    if (!sent) this.drops.rejected += gone.length;
  }
}

const NS_PER_SECOND = 1_000_000_000n;

/** As the SDK has it: seconds, and the rest in nanoseconds. */
function hrTime(ns: bigint): HrTime {
  return [Number(ns / NS_PER_SECOND), Number(ns % NS_PER_SECOND)];
}

/** The exporter, and who hears what became of each batch. */
function counting(exporter: LogRecordExporter, done: (records: number, sent: boolean) => void): LogRecordExporter {
  return {
    export(records: ReadableLogRecord[], callback: (result: ExportResult) => void): void {
      exporter.export(records, (result) => {
        done(records.length, result.code === ExportResultCode.SUCCESS);
        callback(result);
      });
    },
    forceFlush: () => exporter.forceFlush(),
    shutdown: () => exporter.shutdown(),
  };
}

/** Names of OpenTelemetry's semantic conventions where there are such; what is ours begins with `janusd.`. */
function attributesOf(view: FileEventView, subject: SubjectContext, deniers: Deniers): Record<string, AnyValue> {
  const { flags } = view;
  const attributes: Record<string, AnyValue> = {
    "k8s.namespace.name": subject.namespace,
    "k8s.pod.name": subject.pod,
    "k8s.pod.uid": subject.podUid,
    "k8s.container.name": subject.containerName,
    "container.id": subject.containerId,
    "file.path": view.pathText,
    "process.pid": view.pid,
    "process.parent_pid": view.ppid,
    "process.creation.time": view.start,
    "process.command": view.commText,
    "process.executable.path": view.exeText,
    "janusd.argv0": view.argv0Text,
    "user.id": String(view.uid),
    "janusd.guard": guardName(subject),
    "janusd.subject": subject.subjectIndex,
    "janusd.response": responseName(view),
    "janusd.event": eventName(view),
    "janusd.asked": view.askedText,
    "janusd.file_type": fileType(view),
    "janusd.old_path": oldPathText(view),
    "janusd.new_path": newPathText(view),
    "janusd.answered": (flags & FLAG.answered) !== 0,
    "janusd.inside": (flags & FLAG.inside) !== 0,
    "janusd.owner": (flags & FLAG.owner) !== 0,
    "janusd.late": (flags & FLAG.late) !== 0,
    "janusd.audited": (flags & FLAG.audited) !== 0,
    "janusd.ancestry": view.ancestryText,
    "janusd.blocked_ns": view.blockedNs,
    "janusd.seq": view.seq,
  };
  if ((flags & FLAG.merged) !== 0) attributes["janusd.merged"] = true;
  if ((flags & FLAG.found) !== 0) attributes["janusd.found"] = true;
  const names = guardNames(subject, deniers);
  if (names !== undefined) attributes["janusd.guards"] = [...names.all];
  if (names !== undefined && names.auditing.length > 0) attributes["janusd.audit_guards"] = [...names.auditing];
  if (deniers.cut) attributes["janusd.guards_cut"] = true;
  for (const [key, value] of Object.entries(subject.tags)) attributes[`janusd.tag.${key}`] = value;
  for (const [key, value] of Object.entries(attributes)) if (value === "") delete attributes[key];
  return attributes;
}
