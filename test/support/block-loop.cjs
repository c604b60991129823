// Loaded into janusd by NODE_OPTIONS=--require: blocks its event loop for as
// many milliseconds as the file $BLOCK_LOOP says, when it appears. Removes
// that file when the block begins, and writes "$BLOCK_LOOP.over" when it ends.
const fs = require("node:fs");
const { isMainThread } = require("node:worker_threads");

const file = process.env.BLOCK_LOOP;
if (isMainThread) setInterval(look, 10).unref();

function look() {
  if (!fs.existsSync(file)) return;
  const milliseconds = Number(fs.readFileSync(file, "utf8"));
  fs.unlinkSync(file);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
  fs.writeFileSync(`${file}.over`, "");
}
