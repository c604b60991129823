/** When what failed is tried again: soon at first, then after twice as long each time. */
const RETRY_MIN_MS = 2000;
const RETRY_MAX_MS = 60_000;

/** `before`: the last pause; undefined: it failed for the first time. Milliseconds. */
export function pauseAfter(before: number | undefined): number {
  return before === undefined ? RETRY_MIN_MS : Math.min(before * 2, RETRY_MAX_MS);
}
