/**
 * The event log: one line an event, as text or as JSON, to a file descriptor.
 * The lines of a batch go out in one write.
 */
import type { FileEventView } from "../event/decode.js";
import { FLAG } from "../event/layout.js";
import type { Sink } from "../event/sink.js";
import { quoteJson } from "../event/text.js";
import {
  compileLogFormat,
  DEFAULT_LOG_FORMAT,
  eventName,
  fileType,
  type LogFormat,
  RENAME_LOG_FORMAT,
  responseName,
  SEVERAL_AUDIT_LOG_FORMAT,
  SEVERAL_LOG_FORMAT,
} from "../log-format.js";
import { type Deniers, guardNames, type SubjectContext } from "../subject.js";
import { LogFile } from "./log-file.js";
import { Output } from "./output.js";

const LIMITS = {
  /** Some 30,000 lines: the time that a log shipper takes to restart. */
  queueLimit: 4 * 1024 * 1024,
  closeTimeoutMs: 1000,
} as const;

export interface LogSinkOptions {
  readonly format: "text" | "json";
  /** A descriptor, borrowed and left open; or a file. */
  readonly to: number | LogFile;
}

export function openLogSink({ format, to }: LogSinkOptions): Sink {
  const output = typeof to === "number" ? new Output({ fd: to, ...LIMITS }) : to.output;
  return new LogSink(output, format === "json" ? new JsonLines() : new TextLines());
}

/** Throws an Error that names the flag. */
export function openLogFile(path: string): LogFile {
  return new LogFile(path, LIMITS);
}

/** One line, without its newline. */
interface LineRenderer {
  render(view: FileEventView, subject: SubjectContext, deniers: Deniers): string;
}

class LogSink implements Sink {
  readonly name = "log";
  readonly #output: Output;
  readonly #renderer: LineRenderer;
  #batch = "";
  #lines = 0;

  constructor(output: Output, renderer: LineRenderer) {
    this.#output = output;
    this.#renderer = renderer;
  }

  get drops(): Readonly<Record<string, number>> {
    return this.#output.drops;
  }

  get dropped(): number {
    return Object.values(this.#output.drops).reduce((sum, count) => sum + count, 0);
  }

  get queueBytes(): number {
    return this.#output.queueBytes;
  }

  write(view: FileEventView, subject: SubjectContext, deniers: Deniers): void {
    this.#batch += `${this.#renderer.render(view, subject, deniers)}\n`;
    this.#lines++;
  }

  flush(): void {
    if (this.#lines === 0) return;
    this.#output.push(this.#batch, this.#lines);
    this.#batch = "";
    this.#lines = 0;
  }

  close(): Promise<void> {
    this.flush();
    return this.#output.close();
  }
}

class TextLines implements LineRenderer {
  readonly #default = compileLogFormat(DEFAULT_LOG_FORMAT);
  readonly #several = compileLogFormat(SEVERAL_LOG_FORMAT);
  readonly #severalAudit = compileLogFormat(SEVERAL_AUDIT_LOG_FORMAT);
  readonly #rename = compileLogFormat(RENAME_LOG_FORMAT);
  readonly #formats = new WeakMap<SubjectContext, LogFormat>();

  render(view: FileEventView, subject: SubjectContext, deniers: Deniers): string {
    return this.#formatOf(view, subject, deniers).render(view, subject, deniers);
  }

  #formatOf(view: FileEventView, subject: SubjectContext, { others, cut }: Deniers): LogFormat {
    if (subject.logFormat === "") {
      if (view.hasOther) return this.#rename;
      if (others.length === 0 && !cut) return this.#default;
      return subject.mode === "audit" ? this.#severalAudit : this.#several;
    }
    let format = this.#formats.get(subject);
    if (format === undefined) {
      format = compileLogFormat(subject.logFormat);
      this.#formats.set(subject, format);
    }
    return format;
  }
}

/** Nothing, if one guard decided: `guard` says which. */
function guardsJson(subject: SubjectContext, deniers: Deniers): string {
  const names = guardNames(subject, deniers);
  if (names === undefined) return "";
  const marked = names.auditing.length === 0 ? "" : `,"auditGuards":${quoteJson(names.auditing)}`;
  return `,"guards":${quoteJson(names.all)},"guardsCut":${deniers.cut}${marked}`;
}

/** Of a rename: the name that is not `path`. */
function otherJson(view: FileEventView): string {
  const name = view.otherIsOld ? "oldPath" : "newPath";
  const bytes = view.otherIsUtf8 ? "" : `,"${name}Bytes":"${view.otherBytes.toString("base64")}"`;
  return `,"${name}":${view.otherJson}${bytes}`;
}

/** Put together by hand, since the keys are known; what isn't plain text by quoteJson(). */
class JsonLines implements LineRenderer {
  readonly #subjects = new WeakMap<SubjectContext, string>();

  render(view: FileEventView, subject: SubjectContext, deniers: Deniers): string {
    const { flags } = view;
    const asked = view.hasAsked ? `,"asked":${view.askedJson}` : "";
    const other = view.hasOther ? otherJson(view) : "";
    const told = `${(flags & FLAG.merged) !== 0 ? ',"merged":true' : ""}${(flags & FLAG.found) !== 0 ? ',"found":true' : ""}`;
    const argv0 = view.hasArgv0 ? `,"argv0":${view.argv0Json}` : "";
    const bytes = view.pathIsUtf8 ? "" : `,"pathBytes":"${view.pathBytes.toString("base64")}"`;
    return (
      `{"time":"${view.time}",${this.#subjectOf(subject)},"response":"${responseName(view)}",` +
      `"event":"${eventName(view)}","answered":${(flags & FLAG.answered) !== 0},"path":${view.pathJson}${bytes}${other}${asked},` +
      `"ftype":"${fileType(view)}","pid":${view.pid},"start":"${view.start}","ppid":${view.ppid},` +
      `"uid":${view.uid},"comm":${view.commJson},"exe":${view.exeJson}${argv0},"inside":${(flags & FLAG.inside) !== 0},` +
      `"ancestry":${quoteJson(view.ancestry)},"ancestryCut":${(flags & FLAG.cut) !== 0},` +
      `"blockedNs":${view.blockedNs},"seq":${view.seq},"owner":${(flags & FLAG.owner) !== 0},` +
      `"late":${(flags & FLAG.late) !== 0},"audited":${(flags & FLAG.audited) !== 0}${told}${guardsJson(subject, deniers)}}`
    );
  }

  /** The keys that a subject determines. It never changes, so they are encoded once. */
  #subjectOf(subject: SubjectContext): string {
    let text = this.#subjects.get(subject);
    if (text === undefined) {
      text = quoteJson({
        node: subject.node,
        namespace: subject.namespace,
        pod: subject.pod,
        container: subject.containerId,
        containerName: subject.containerName,
        guard: subject.guard,
        subject: subject.subjectIndex,
        tags: subject.tags,
      }).slice(1, -1);
      this.#subjects.set(subject, text);
    }
    return text;
  }
}
