/**
 * The daemon's own log: JSON lines on stderr. Through the bounded output that
 * events use, since whoever reads our stderr may be a process that waits for
 * our answer.
 */
import { pino } from "pino";
import { Output } from "./sink/output.js";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const QUEUE_LIMIT_BYTES = 1024 * 1024;
const CLOSE_TIMEOUT_MS = 500;

type LogMethod = (about: object, message: string) => void;

/** What the daemon's parts need of a logger. */
export interface Log {
  readonly debug: LogMethod;
  readonly info: LogMethod;
  readonly warn: LogMethod;
  readonly error: LogMethod;
}

export interface DaemonLog extends Log {
  /** Waits, for a bounded time, until all is written. */
  close(): Promise<void>;
}

export function openLog(level: LogLevel): DaemonLog {
  const output = new Output({ fd: 2, queueLimit: QUEUE_LIMIT_BYTES, closeTimeoutMs: CLOSE_TIMEOUT_MS });
  const logger = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: (line: string) => output.push(line, 1) },
  );
  return {
    debug: (about, message) => logger.debug(about, message),
    info: (about, message) => logger.info(about, message),
    warn: (about, message) => logger.warn(about, message),
    error: (about, message) => logger.error(about, message),
    close: () => output.close(),
  };
}
