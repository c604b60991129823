// Loaded into janusd by NODE_OPTIONS=--require: once the file $STOP_PIPELINE is
// there, the pipeline's timer (COALESCE_MS) doesn't come any more, and nobody
// reads the event ring. All else goes on.
const fs = require("node:fs");

const file = process.env.STOP_PIPELINE;
const { setTimeout } = globalThis;
globalThis.setTimeout = (callback, milliseconds, ...rest) =>
  setTimeout(milliseconds === 2 && fs.existsSync(file) ? () => undefined : callback, milliseconds, ...rest);
