/**
 * A process with an engine that holds containers of pods below a cgroup (PODS_BELOW), and admits none: says who arrives. A line on its standard
 * input is the name of a file: its event loop is blocked until that is there. Then it says what became of all.
 */
const { existsSync } = require("node:fs");
const { join } = require("node:path");

const dist = (file) => import(join(__dirname, "../../dist", file));

async function main() {
  const [{ parseConfig }, { loadAddon }] = await Promise.all([dist("config.js"), dist("native.js")]);
  const { Engine } = loadAddon();
  const options = { ...parseConfig(process.argv.slice(2), {}, "test").engine, stalls: 0 };
  const say = (...words) => process.stdout.write(`${words.join(" ")}\n`);
  const engine = new Engine(options, () => {
    for (const { cgroupId, cgroupPath, containerId } of engine.takeArrivals()) {
      if (cgroupPath.startsWith(`${process.env.PODS_BELOW}/`)) say("arrived", containerId);
      else engine.admit(cgroupId, false); // this machine may run other pods
    }
  });
  engine.start();
  engine.holdArrivals(true);
  process.stdin.once("data", (line) => {
    say("blocked");
    const cell = new Int32Array(new SharedArrayBuffer(4));
    while (!existsSync(line.toString().trim())) Atomics.wait(cell, 0, 0, 20);
    say("outcomes", JSON.stringify(engine.stats().arrivals.outcomes));
  });
  say("holds");
}

void main();
