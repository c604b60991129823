/** A pattern of paths, by the code that judges a subject's `exclude` (native/policy/glob.h). Works on bytes: a path need not be UTF-8. */
import { Buffer } from "node:buffer";
import { loadAddon } from "../native.js";

export class Glob {
  readonly #pattern: Uint8Array;
  readonly #covers = loadAddon().globCovers;

  constructor(pattern: string) {
    this.#pattern = Buffer.from(pattern);
  }

  /** Whether it matches all of a path, or a leading directory of it: what fits a directory fits all that is below. */
  covers(path: Uint8Array): boolean {
    return this.#covers(this.#pattern, path);
  }
}
