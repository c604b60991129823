/** How many times as long as on a machine of its own everything takes: `make kernels` has emulated processors. */
export const SLOW = Math.max(1, Number(process.env["TEST_PATIENCE_MS"] ?? 0) / 20_000);

/**
 * Within what time the documentation says that something happens: the limits of `eventually` where a test waits for it.
 * Milliseconds.
 */
export const WITHIN = {
  /** docs/operations.md, "Probes and scrapes": the event loop reports once a second. */
  report: 1_000,
  /** docs/architecture/failures.md: `/readyz` after 5 s; and the report. */
  standingStill: 5_000 + 1_000,
  /** src/canary.ts: what was not proven for 8 s; its next open after 2 s, since the flag is not given; and the report. */
  unproven: 8_000 + 2_000 + 1_000,
  /** docs/operations.md, "Who may command", *Rotation*: new TLS files are in use some 4 s after they are there. */
  tlsFiles: 4_000,
  /** docs/operations.md, "Changing the guard file": looked at each second, read after two looks that see the same. */
  guardFile: 2_000,
  /** The same: SIGHUP has it read at once. */
  sighup: 1_000,
  /** docs/operations.md, "Restart and upgrade": what one daemon is told, the other takes up within about a second. */
  otherDaemon: 1_000,
} as const;

/**
 * docs/operations.md, "Changing the guard file" and "A path that cannot be guarded now": tried again after 2 s, 4 s and
 * so on. Each pause is as long as all before it and 2 s more, so who waits from now on waits no longer than what is past
 * since `failed` and those 2 s; tries are made once a second. `failed`: of performance.now().
 */
export function withinRetry(failed: number): number {
  return performance.now() - failed + 2_000 + 1_000;
}
