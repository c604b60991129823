/**
 * What orchestrators and Prometheus ask for: /livez, /readyz, /metrics. They
 * are answered by a thread of their own (listener.ts); here is what it is told.
 */
import { Worker } from "node:worker_threads";
import type { TcpAddress } from "../address.js";
import { bindTcp } from "../bind.js";
import type { HealthReport } from "../health.js";
import type { Metrics } from "../metrics.js";
import type { FromListener, ListenerStart, StaleLimits, ToListener } from "./messages.js";

const STALE: StaleLimits = { readyMs: 5_000, liveMs: 30_000 };
/** Before a thread that ended is started again. Milliseconds. */
const AGAIN_MS = 1_000;

export interface HttpServerOptions {
  readonly listen: TcpAddress;
  /** As of now; later ones are told by `report`. */
  readonly report: HealthReport;
  /** Facts for /readyz beside the checks: what this kernel can do. */
  readonly about: object;
  readonly metrics: Pick<Metrics, "render" | "contentType">;
  /** Figures are made anew so often at most. Milliseconds. */
  readonly metricsMs: number;
  readonly stale?: StaleLimits;
  /** The thread ended, and is started again. */
  readonly onFailure: (error: Error) => void;
}

export class HttpServer {
  readonly #options: HttpServerOptions;
  #address: TcpAddress;
  #report: HealthReport;
  #draining = false;
  #closing = false;
  #worker: Worker | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    this.#address = options.listen;
    this.#report = options.report;
  }

  /** With the port that was chosen, if 0 was asked for. */
  get address(): TcpAddress {
    return this.#address;
  }

  /** Rejects with ListenError if the address cannot be had. */
  open(): Promise<void> {
    return bindTcp(this.#address, "--http", (address) => this.#start(address));
  }

  #start(listen: TcpAddress): Promise<void> {
    const { about, metrics, metricsMs, stale = STALE } = this.#options;
    const workerData: ListenerStart = {
      listen,
      report: this.#report,
      about,
      contentType: metrics.contentType,
      stale,
      metricsMs,
    };
    const worker = new Worker(new URL("./listener.js", import.meta.url), { workerData, name: "http" });
    this.#worker = worker;
    return new Promise((resolve, reject) => {
      let failure = new Error("the HTTP thread ended");
      let listening = false;
      worker.on("message", (message: FromListener) => {
        if (message.kind === "figures") {
          void this.#sendFigures();
        } else if (message.kind === "listening") {
          listening = true;
          this.#address = message.address;
          if (this.#draining) this.#tell({ kind: "drain" });
          resolve();
        } else {
          failure = Object.assign(new Error(message.message), { code: message.code });
          void worker.terminate();
        }
      });
      worker.on("error", (error: Error) => {
        failure = error;
      });
      worker.once("exit", () => {
        if (listening) this.#ended(failure);
        else reject(failure);
      });
    });
  }

  /** Somebody may have found a way to make it end: that must not be the end of liveness. */
  #ended(error: Error): void {
    if (this.#closing) return;
    this.#options.onFailure(error);
    this.#timer = setTimeout(() => {
      this.open().catch((again: Error) => this.#ended(again));
    }, AGAIN_MS);
  }

  async #sendFigures(): Promise<void> {
    try {
      this.#tell({ kind: "figures", page: await this.#options.metrics.render() });
    } catch (error) {
      this.#tell({ kind: "no figures", reason: error instanceof Error ? error.message : String(error) });
    }
  }

  #tell(message: ToListener): void {
    this.#worker?.postMessage(message);
  }

  /** To be called once a second: without, /readyz and then /livez say no. */
  report(report: HealthReport): void {
    this.#report = report;
    this.#tell({ kind: "report", report });
  }

  /** From now on /readyz says no, whatever the checks say. */
  drain(): void {
    this.#draining = true;
    this.#tell({ kind: "drain" });
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#timer);
    await this.#worker?.terminate();
  }
}
