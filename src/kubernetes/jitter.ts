/** Pauses by chance: there are thousands of daemons, and one API server. Milliseconds. */

export function between(min: number, max: number): number {
  return min + Math.random() * (max - min);
}

/** After a try that failed, `tries` before it: `minMs`, then twice as long each time, up to `maxMs`; of each, half or more. */
export function backoff(tries: number, minMs: number, maxMs: number): number {
  return between(0.5, 1) * Math.min(minMs * 2 ** tries, maxMs);
}
