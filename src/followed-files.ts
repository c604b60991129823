/**
 * Files that are followed: what replaces them is told. Kubernetes swaps a symlink two levels up, others write in place
 * or rename over; a notification would have to know each way, so this looks at them again and again.
 */
import { statSync } from "node:fs";
import { stat } from "node:fs/promises";

export class FollowedFiles {
  readonly #files: readonly string[];
  readonly #intervalMs: number;
  /** What the files looked like when they were last told of, and at the last look. */
  #told: string;
  #seen: string;
  #timer: NodeJS.Timeout | undefined;
  #looking = false;

  /** Looks once. Whoever reads the files after that misses no change. */
  constructor(files: readonly string[], intervalMs: number) {
    this.#files = files;
    this.#intervalMs = intervalMs;
    this.#told = this.#seen = files
      .map((file) => lookOf(statSync(file, { throwIfNoEntry: false, bigint: true })))
      .join();
  }

  /**
   * Calls `onChange` for each change, after two looks that see the same: files that belong together are rarely
   * written at once, nor is one that is written in place. Until close().
   */
  follow(onChange: () => void): void {
    this.#timer = setInterval(() => void this.#look(onChange), this.#intervalMs);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #look(onChange: () => void): Promise<void> {
    if (this.#looking) return; // A file system that does not answer.
    this.#looking = true;
    const looks = this.#files.map((file) =>
      stat(file, { bigint: true }).then(lookOf, (error: unknown) => String(error)),
    );
    const seen = (await Promise.all(looks)).join();
    this.#looking = false;
    const steady = seen === this.#seen;
    this.#seen = seen;
    if (!steady || seen === this.#told) return;
    this.#told = seen;
    onChange();
  }
}

interface Look {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
}

function lookOf(found: Look | undefined): string {
  return found === undefined ? "" : [found.dev, found.ino, found.size, found.mtimeNs].join(":");
}
