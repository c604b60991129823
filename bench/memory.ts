/** What of the daemon's memory is Node's own: its runtime with nothing in it, with one more thread, and with fastify in that. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Figures } from "./figures.js";
import { residentMegabytes } from "./process.js";

/** As bin/janusd starts it. */
const FLAGS = ["--max-semi-space-size=1"];

const REST = "setInterval(() => undefined, 1e6);";
const READY = `require("node:worker_threads").parentPort.postMessage("");`;
const inThread = (script: string) =>
  `new (require("node:worker_threads").Worker)(${JSON.stringify(script)}, { eval: true }).once("message", () => process.send(""));`;

const SCRIPTS = {
  rss_node_mb: `process.send(""); ${REST}`,
  rss_node_thread_mb: inThread(`${READY} ${REST}`),
  rss_node_fastify_mb: inThread(`require("fastify")(); ${READY} ${REST}`),
} as const;

export async function memory(figures: Figures): Promise<void> {
  for (const name of Object.keys(SCRIPTS) as (keyof typeof SCRIPTS)[]) {
    const child = spawn(process.execPath, [...FLAGS, "--eval", SCRIPTS[name]], {
      cwd: new URL("..", import.meta.url),
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    try {
      await once(child, "message");
      if (child.pid !== undefined) figures.add(name, residentMegabytes(child.pid));
    } finally {
      child.kill("SIGKILL");
    }
  }
}
