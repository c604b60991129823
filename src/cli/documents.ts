/** The guards that a command line names by `-f`, and where each is said. */
import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { type GuardDocument, readGuardFile } from "../guard/file.js";
import { identity } from "../guard/registry.js";

export interface LoadedGuard extends GuardDocument {
  /** As it was named; `stdin` for `-`. */
  readonly file: string;
}

/** All documents of all files; `-` is `stdin`. Throws GuardFileError, and what reading a file throws. */
export async function loadGuards(files: readonly string[], stdin: NodeJS.ReadableStream): Promise<LoadedGuard[]> {
  const loaded = new Map<string, LoadedGuard>();
  for (const name of files) {
    const file = name === "-" ? "stdin" : name;
    const content = name === "-" ? await text(stdin) : readFileSync(name, "utf8");
    for (const document of readGuardFile(content, file)) {
      const key = identity(document.config);
      const other = loaded.get(key);
      if (other !== undefined) {
        const { line, field } = document.locate("name");
        throw new Error(`${file}:${line}: ${field}: ${other.file} has the same guard`);
      }
      loaded.set(key, { ...document, file });
    }
  }
  return [...loaded.values()];
}
