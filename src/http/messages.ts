/** What the event loop and the thread that serves HTTP tell each other. */
import type { TcpAddress } from "../address.js";
import type { HealthReport } from "../health.js";

/** How old the event loop's last report may be. It sends one each second, unless it stands still. Milliseconds. */
export interface StaleLimits {
  /** More is not a busy loop any more. */
  readonly readyMs: number;
  /** A loop that stands still for so long takes no orders and delivers no events: only a restart helps. */
  readonly liveMs: number;
}

/** How the thread begins. */
export interface ListenerStart {
  readonly listen: TcpAddress;
  readonly report: HealthReport;
  /** Facts for /readyz beside the checks. */
  readonly about: object;
  /** Of /metrics. */
  readonly contentType: string;
  readonly stale: StaleLimits;
  /** A page of figures is served for so long. Milliseconds. */
  readonly metricsMs: number;
}

export type ToListener =
  | { readonly kind: "report"; readonly report: HealthReport }
  | { readonly kind: "figures"; readonly page: string }
  | { readonly kind: "no figures"; readonly reason: string }
  | { readonly kind: "drain" };

export type FromListener =
  /** With the port that was chosen. */
  | { readonly kind: "listening"; readonly address: TcpAddress }
  | { readonly kind: "refused"; readonly message: string; readonly code: string | undefined }
  /** Somebody wants figures. One answer to each. */
  | { readonly kind: "figures" };
