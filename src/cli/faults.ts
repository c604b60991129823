/** What went wrong, as people read it: one line a fault. */
import { singleLine } from "../event/text.js";
import { containerId } from "../guard/guard.js";
import { labelOf } from "../guard/registry.js";
import { RpcError } from "./client.js";
import type { LoadedGuard } from "./documents.js";
import type { Io } from "./session.js";

export function say(io: Io, lines: readonly string[]): void {
  for (const line of lines) io.stderr(`janusctl: ${singleLine(line)}\n`);
}

/** Says why the daemon finds that what was asked makes no sense. Throws what is no such error. */
export function sayInvalid(io: Io, error: unknown): void {
  if (!(error instanceof RpcError) || error.code !== "INVALID_ARGUMENT") throw error;
  say(io, faultsOf(error));
}

export function faultsOf(error: unknown): string[] {
  if (error instanceof RpcError) {
    const { code, message, violations } = error;
    if (violations.length === 0) return [`${code}: ${message}`];
    return violations.map(({ field, description }) => `${code}: ${field}: ${description}`);
  }
  return (error instanceof Error ? error.message : String(error)).split("\n");
}

/** `field` as the request has it; "": the guard as a whole. */
export function saidAt({ file, locate, config }: LoadedGuard, field: string, problem: string): string {
  const where = locate(field);
  const named = field === "" ? "" : `${where.field}: `;
  return `${file}:${where.line}: guard ${labelOf(config)}: ${named}${problem}`;
}

/** The daemon's word on a guard of a file, said where the file says what is wrong. */
export function faultsOfDocument(error: unknown, document: LoadedGuard): string[] {
  const { config } = document;
  const at = (field: string, problem: string): string => saidAt(document, field, problem);
  if (!(error instanceof RpcError)) return faultsOf(error).map((line) => at("", line));
  const { code, message, violations } = error;
  if (violations.length > 0) return violations.map(({ field, description }) => at(field, `${code}: ${description}`));
  // It names no field, but the container.
  const missing = config.cid.findIndex((cid) => message.includes(JSON.stringify(containerId(cid))));
  const field = code === "NOT_FOUND" && missing !== -1 ? `cid[${missing}]` : "";
  return [at(field, `${code}: ${message}`)];
}
