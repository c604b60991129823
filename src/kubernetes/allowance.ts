/** So many at once, and one more each `refillMs`. Milliseconds of a clock that only goes on. */
export class Allowance {
  readonly #burst: number;
  readonly #refillMs: number;
  #left: number;
  #at: number;

  constructor(burst: number, refillMs: number, now: number) {
    this.#burst = burst;
    this.#refillMs = refillMs;
    this.#left = burst;
    this.#at = now;
  }

  /** Whether there is one now. */
  has(now: number): boolean {
    this.#left = Math.min(this.#burst, this.#left + (now - this.#at) / this.#refillMs);
    this.#at = now;
    return this.#left >= 1;
  }

  /** Takes one that there is. */
  take(): void {
    this.#left--;
  }
}
