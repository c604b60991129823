/** The program janusctl: the command line in, the exit status out. */
import { once } from "node:events";
import { janusctl } from "./janusctl.js";
import type { Terminal } from "./session.js";

const { stdin, stdout, stderr } = process;
// Nobody reads on: `janusctl list --watch | head`. As if SIGPIPE had ended it, which Node ignores.
stdout.on("error", () => process.exit(141));
const terminal: Terminal = {
  color: (process.env["NO_COLOR"] ?? "") === "",
  size: () => ({ columns: stdout.columns, rows: stdout.rows }),
};
process.exitCode = await janusctl(process.argv.slice(2), {
  stdin,
  stdout: (text) => stdout.write(text),
  stderr: (text) => stderr.write(text),
  terminal: stdout.isTTY ? terminal : undefined,
  drained: async () => {
    if (stdout.writableNeedDrain) await once(stdout, "drain");
  },
  interrupted: () =>
    new Promise((resolve) => {
      for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => resolve());
    }),
});
