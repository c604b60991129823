/** A daemon whose pipeline can be stopped: nobody reads the event ring then, and all else goes on. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { workspaceDirectory } from "./cleanup.js";

/** `env` is the daemon's; `stop` has effect at the pipeline's next turn. */
export function stoppablePipeline(): { readonly env: Readonly<Record<string, string>>; readonly stop: () => void } {
  const stopped = join(mkdtempSync(join(workspaceDirectory(), "pipeline-")), "stopped");
  const preload = new URL("./stop-pipeline.cjs", import.meta.url).pathname;
  return {
    env: { NODE_OPTIONS: `--require=${preload}`, STOP_PIPELINE: stopped },
    stop: () => writeFileSync(stopped, ""),
  };
}
