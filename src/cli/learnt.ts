/**
 * What was opened below some paths, folded to what a guard can say in few lines.
 *
 * Memory is bounded: a container chooses how many names there are. Above MAX_NAMES, directories are folded early, those
 * with the most entries first; names that are even then too many are only counted (`unlisted`).
 */

import { Buffer } from "node:buffer";
import { PATH_LIMIT } from "../guard/guard.js";

/** Of the tree: entries and the directories that hold them. */
const MAX_NAMES = 10_000;

/** So many entries with names that look generated fold the directory that holds them. */
const GENERATED = 3;

/** Programs that are kept apart, by entry and at all; the rest are only counted as others. */
const MAX_PROGRAMS = 4;
const MAX_ALL_PROGRAMS = 500;

export interface Uses {
  count: number;
  /** By program: its executable. */
  readonly programs: Map<string, number>;
  /** By programs for which there was no room. */
  others: number;
}

/** One line of a guard. */
export interface LearntPath {
  readonly path: string;
  readonly uses: Uses;
}

export interface LearntTree extends LearntPath {
  /** Different paths in it that were opened; at least, if `forced`. */
  readonly paths: number;
  readonly forced: Forced | undefined;
}

/** Why something was folded as it was learnt: there are too many names, or one that a guard can't say. */
export type Forced = "names" | "unsayable";

export interface Folded {
  /** Allowed one by one, sorted. */
  readonly exact: readonly LearntPath[];
  /** Allowed with all below them, sorted. */
  readonly trees: readonly LearntTree[];
  /** Roots that were opened as directories. */
  readonly roots: readonly LearntPath[];
  /** Roots that are files, and were opened. */
  readonly files: readonly LearntPath[];
  /** Roots that hold names which look generated. They are listed one by one: folded, nothing would be denied. */
  readonly generated: readonly string[];
  /** Opened by a path that is below no root: a hard link, or what was moved away. Up to MAX_ELSEWHERE. */
  readonly elsewhere: readonly LearntPath[];
  /** Uses of names that no guard can list: there are too many, or they can't be said and are right below a root. */
  readonly unlisted: Uses;
}

const MAX_ELSEWHERE = 20;

interface Node {
  readonly children: Map<string, Node>;
  readonly uses: Uses;
  directory: boolean;
  folded: Forced | undefined;
  /** Different paths; of what was folded, as many as were known. */
  paths: number;
}

const noUses = (): Uses => ({ count: 0, programs: new Map(), others: 0 });

function newNode(): Node {
  return { children: new Map(), uses: noUses(), directory: false, folded: undefined, paths: 0 };
}

function addUses(to: Uses, from: Readonly<Uses>): void {
  to.count += from.count;
  to.others += from.others;
  for (const [program, count] of from.programs) addProgram(to, program, count);
}

function addProgram(uses: Uses, program: string, count: number): void {
  const before = uses.programs.get(program);
  if (before === undefined && uses.programs.size >= MAX_PROGRAMS) uses.others += count;
  else uses.programs.set(program, (before ?? 0) + count);
}

/** A part of a path that will hardly be the same the next time: a number, a hash, a UUID, what mkstemp(3) makes. */
export function looksGenerated(name: string): boolean {
  return (
    /\d{5,}/.test(name) ||
    /(?<![0-9a-z])(?=[a-f]*\d)[0-9a-f]{8,}(?![0-9a-z])/i.test(name) ||
    /(?:^|[._-])(?=[A-Za-z]*\d)(?=[a-z\d]*[A-Z])(?=[A-Z\d]*[a-z])[A-Za-z\d]{6,}$/.test(name)
  );
}

/** Whether `path` is `root` or below it. */
export function isWithin(path: string, root: string): boolean {
  return root === "/" || path === root || path.startsWith(`${root}/`);
}

function below(directory: string, name: string): string {
  return directory === "/" ? `/${name}` : `${directory}/${name}`;
}

export class Learnt {
  readonly #roots: ReadonlyMap<string, Node>;
  readonly #maxNames: number;
  readonly #elsewhere = new Map<string, Uses>();
  readonly #unlisted = noUses();
  readonly #programs = new Set<string>();
  #names = 0;
  /** Nothing is left to be folded. */
  #full = false;

  /** `roots`: absolute, normalised, none below another. */
  constructor(roots: readonly string[], maxNames = MAX_NAMES) {
    this.#roots = new Map(roots.map((root) => [root, newNode()]));
    this.#maxNames = maxNames;
  }

  /** `utf8`: the path's bytes are; else `path` has U+FFFD for those that are not. */
  add(path: string, utf8: boolean, directory: boolean, program: string): void {
    const uses = this.#usesOf(path, utf8, directory);
    uses.count++;
    if (this.#programs.size < MAX_ALL_PROGRAMS) this.#programs.add(program);
    if (this.#programs.has(program)) addProgram(uses, program, 1);
    else uses.others++;
  }

  #usesOf(path: string, utf8: boolean, directory: boolean): Uses {
    const [root, top] = [...this.#roots].find(([one]) => isWithin(path, one)) ?? [];
    if (root === undefined || top === undefined) return this.#elsewhereAt(path);
    let node = top;
    let length = Buffer.byteLength(root);
    for (const part of path.slice(root.length).split("/").filter(Boolean)) {
      if (node.folded) break;
      length += Buffer.byteLength(part) + 1;
      if (length > PATH_LIMIT || (!utf8 && part.includes("\ufffd"))) {
        // What holds it is allowed; but not a root, since nothing would be denied then.
        if (node === top) return this.#unlisted;
        this.#fold(node, "unsayable");
        break;
      }
      let child = node.children.get(part);
      if (child === undefined) {
        if (this.#names >= this.#maxNames) {
          if (this.#full) return this.#unlisted;
          this.#foldLargest();
          this.#full = this.#names >= this.#maxNames;
          // What was on the way may be gone.
          return this.#usesOf(path, utf8, directory);
        }
        child = newNode();
        node.children.set(part, child);
        this.#names++;
      }
      node = child;
    }
    if (!node.folded) {
      node.paths = 1;
      node.directory ||= directory;
    }
    return node.uses;
  }

  /** `most`: a directory with more entries than that, in which something was opened, is folded. */
  folded(most: number): Folded {
    const exact: LearntPath[] = [];
    const trees: LearntTree[] = [];
    const roots: LearntPath[] = [];
    const files: LearntPath[] = [];
    const generated: string[] = [];
    const visit = (path: string, node: Node, isRoot: boolean): void => {
      const names = [...node.children.keys()];
      const random = names.filter(looksGenerated).length >= GENERATED;
      if (isRoot && random) generated.push(path);
      if (!isRoot && (node.folded || random || names.length > most)) {
        const { uses, paths } = totalOf(node);
        trees.push({ path, uses, paths, forced: node.folded });
        return;
      }
      const { uses } = node;
      if (uses.count > 0) (!isRoot ? exact : node.directory ? roots : files).push({ path, uses });
      for (const [name, child] of node.children) visit(below(path, name), child, false);
    };
    for (const [path, node] of this.#roots) visit(path, node, true);
    const elsewhere = [...this.#elsewhere].map(([path, uses]) => ({ path, uses }));
    const sorted = <Path extends LearntPath>(list: readonly Path[]): Path[] =>
      list.toSorted((a, b) => (a.path < b.path ? -1 : 1));
    return {
      ...{ exact: sorted(exact), trees: sorted(trees), roots: sorted(roots), files: sorted(files) },
      ...{ generated: generated.toSorted(), elsewhere: sorted(elsewhere), unlisted: this.#unlisted },
    };
  }

  #elsewhereAt(path: string): Uses {
    const known = this.#elsewhere.get(path);
    if (known !== undefined || this.#elsewhere.size >= MAX_ELSEWHERE) return known ?? this.#unlisted;
    const uses = noUses();
    this.#elsewhere.set(path, uses);
    return uses;
  }

  /** Down to three quarters, so that it is rare. */
  #foldLargest(): void {
    const directories: { node: Node; size: number }[] = [];
    const collect = (node: Node): void => {
      for (const child of node.children.values()) {
        if (child.children.size > 0) directories.push({ node: child, size: child.children.size });
        collect(child);
      }
    };
    for (const root of this.#roots.values()) collect(root);
    directories.sort((a, b) => b.size - a.size);
    for (const { node } of directories) {
      if (this.#names <= this.#maxNames * 0.75) return;
      // Also one that is in a directory which was folded just now: it is in no tree any more.
      if (node.children.size > 0) this.#fold(node, "names");
    }
  }

  #fold(node: Node, why: Forced): void {
    const { uses, paths, names } = totalOf(node);
    this.#names -= names;
    Object.assign(node.uses, uses);
    node.paths = paths;
    node.folded = why;
    emptied(node);
  }
}

/** What was below it is nobody's, also to whoever still holds it. */
function emptied(node: Node): void {
  for (const child of node.children.values()) emptied(child);
  node.children.clear();
}

/** Of a node and all below it. `names`: those below it. */
function totalOf(node: Node): { uses: Uses; paths: number; names: number } {
  const total = { uses: noUses(), paths: node.paths, names: 0 };
  addUses(total.uses, node.uses);
  for (const child of node.children.values()) {
    const { uses, paths, names } = totalOf(child);
    addUses(total.uses, uses);
    total.paths += paths;
    total.names += names + 1;
  }
  return total;
}
