/** What a command works with. */
import type { JanusClient } from "./client.js";

export interface Io {
  readonly stdin: NodeJS.ReadableStream;
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  /** What standard output is, if it is a terminal. */
  readonly terminal?: Terminal | undefined;
  /** Resolves when what was printed has gone out: who prints without end waits for it. */
  readonly drained?: () => Promise<void>;
  /** Resolves when the user wants it to end (SIGINT, SIGTERM, SIGHUP), which from then on doesn't end it by itself, once. */
  readonly interrupted?: () => Promise<void>;
}

export interface Terminal {
  /** False: the user wants none (NO_COLOR). */
  readonly color: boolean;
  /** In characters, now. */
  readonly size: () => { readonly columns: number; readonly rows: number };
}

export interface Session {
  /** Connects when it is first asked something. */
  readonly client: JanusClient;
  readonly io: Io;
}

/** Runs a command; what `work` resolves to is the exit status. */
export interface Runner {
  /** `ifItFails`: the exit status if `work` throws; 1 by default. */
  online(work: (session: Session) => Promise<number>, ifItFails?: number): Promise<void>;
  offline(work: (io: Io) => number | Promise<number>): Promise<void>;
}
