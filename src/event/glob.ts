/**
 * Shell-style patterns of paths, by the rules of a subject's `exclude` (native/policy/glob.h): `*` and `?` stop at
 * `/`, `**` does not, `[a-z]` and `[!a-z]` are byte sets, `\` quotes. Works on bytes: a path need not be UTF-8.
 */
import { Buffer } from "node:buffer";

const byte = (character: string): number => character.charCodeAt(0);
const STAR = byte("*");
const QUESTION = byte("?");
const OPEN = byte("[");
const CLOSE = byte("]");
const BACKSLASH = byte("\\");
const SLASH = byte("/");
const DASH = byte("-");
const BANG = byte("!");
const CARET = byte("^");

const NONE = -1;

export class Glob {
  readonly #pattern: Uint8Array;

  constructor(pattern: string) {
    this.#pattern = Buffer.from(pattern);
  }

  /**
   * Whether it matches all of a path, or a leading directory of it: what fits a directory fits all that is below. One
   * pass over the path, with one restart point for each kind of star: at worst pattern x path, whatever the pattern.
   */
  covers(path: Uint8Array): boolean {
    const pattern = this.#pattern;
    let p = 0;
    let t = 0;
    let starP = NONE; // the last `*`
    let starT = 0;
    let superP = NONE; // the last `**`
    let superT = 0;
    let superWhole = false; // ... which was `**/`: whole directories, or none
    for (;;) {
      const wanted = pattern[p];
      let fits = false;
      if (wanted === STAR) {
        if (pattern[p + 1] === STAR) {
          p += 2;
          superWhole = pattern[p] === SLASH && (t === 0 || path[t - 1] === SLASH);
          if (superWhole) p++;
          superP = p;
          superT = t;
          starP = NONE;
        } else {
          starP = ++p;
          starT = t;
        }
        continue;
      }
      if (wanted === undefined) {
        if (t === path.length || (t > 0 && path[t] === SLASH)) return true;
      } else if (t < path.length) {
        const next = this.#step(p, path[t] as number);
        fits = next !== NONE;
        if (fits) {
          p = next;
          t++;
        }
      }
      if (fits) continue;
      if (starP !== NONE && starT < path.length && path[starT] !== SLASH) {
        p = starP;
        t = ++starT;
      } else if (superP !== NONE && superT < path.length) {
        if (superWhole) {
          superT = path.indexOf(SLASH, superT);
          if (superT === -1) return false;
        }
        p = superP;
        t = ++superT;
        starP = NONE;
      } else {
        return false;
      }
    }
  }

  /** Where the pattern goes on if what stands there fits the byte; else NONE. */
  #step(p: number, found: number): number {
    const wanted = this.#pattern[p];
    if (wanted === QUESTION) return found === SLASH ? NONE : p + 1;
    if (wanted === OPEN) {
      const end = this.#endOfSet(p);
      if (end !== NONE) return this.#inSet(p, end, found) ? end + 1 : NONE;
    }
    const quoted = wanted === BACKSLASH && p + 1 < this.#pattern.length;
    if (quoted) return this.#pattern[p + 1] === found ? p + 2 : NONE;
    return wanted === found ? p + 1 : NONE;
  }

  #startOfSet(p: number): number {
    const negation = this.#pattern[p + 1];
    return negation === BANG || negation === CARET ? p + 2 : p + 1;
  }

  /** Of its closing bracket; NONE if there is none: then `[` stands for itself. A first `]` is of the set. */
  #endOfSet(p: number): number {
    return this.#pattern.indexOf(CLOSE, this.#startOfSet(p) + 1);
  }

  #inSet(p: number, end: number, found: number): boolean {
    const pattern = this.#pattern;
    const start = this.#startOfSet(p);
    let inside = false;
    for (let i = start; i < end; i++) {
      const low = pattern[i] as number;
      const isRange = i + 2 < end && pattern[i + 1] === DASH;
      const high = isRange ? (pattern[i + 2] as number) : low;
      if (isRange) i += 2;
      inside ||= low <= found && found <= high;
    }
    return inside !== start > p + 1 && found !== SLASH;
  }
}
