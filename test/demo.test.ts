/** `make demo` tells the truth: it fails if a read is not denied, and it cleans up, also when interrupted. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { basename } from "node:path";
import t from "tap";
import { cgroupsNamed, killAtExit, mountsBelow } from "./support/cleanup.js";
import { realEnvironment } from "./support/daemon.js";

const program = new URL("../demo/demo.sh", import.meta.url).pathname;

interface Run {
  readonly output: string;
  readonly status: number | null;
}

/** Runs the demo, and sends `signal` to it as soon as its output has `when`. */
function demo(keep: string, signal?: NodeJS.Signals, when = ""): Promise<Run> {
  const [command, ...args] = realEnvironment;
  const child = spawn(command, [...args, `KEEP=${keep}`, program], { stdio: ["ignore", "pipe", "pipe"] });
  const forget = child.pid === undefined ? () => undefined : killAtExit(child.pid);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      if (signal !== undefined && output.includes(when)) child.kill(signal);
    });
  }
  return new Promise((resolve) =>
    child.once("close", (status) => {
      forget();
      resolve({ output, status });
    }),
  );
}

function nothingLeft(t: Tap, output: string): void {
  const [directory = ""] = /\/var\/tmp\/janusd-demo\.\w+/.exec(output) ?? [];
  t.match(basename(directory), /^janusd-demo\./);
  t.notOk(existsSync(directory));
  t.same(mountsBelow(directory), []);
  t.same(cgroupsNamed("janusd-demo"), []);
}
type Tap = Pick<typeof t, "match" | "notOk" | "same">;

t.test("shows what it promises", async (t) => {
  const { output, status } = await demo("");
  t.equal(status, 0, output);
  t.match(output, /\$ bin\/janusctl create -f /);
  t.match(output, /# cat \/etc\/app\/app\.conf\n {2}listen = 8080\n/);
  t.match(output, /# cat \/data\/secrets\/key\n {2}cat: .*Operation not permitted\n/);
  t.match(output, /events --audit\n {2}\S+ AUDIT open '\/etc\/app\/password' demo-pod\//);
  t.match(output, /a process of the container +AUDIT +default\/demo subject\[0\] deny \/etc\/app /);
  t.match(output, "  <DENY> OPEN_PERM file '/data/secrets/key' (demo-pod:");
  t.match(output, /events --follow --deny\n {2}\S+ DENY open '\/etc\/app\/password' demo-pod\//);
  t.match(output, /janusd_events_total\{.*guard="demo",event="open",response="deny"\} 4\n/);
  t.match(output, /list\n {2}NAMESPACE +NAME +POD.*\n {2}default +demo +demo-pod /);
  nothingLeft(t, output);
});

for (const [signal, expected] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  t.test(`KEEP=1 stays until ${signal}, and cleans up`, async (t) => {
    const { output, status } = await demo("1", signal, "cleans up.");
    t.equal(status, expected, output);
    nothingLeft(t, output);
  });
}

t.test("interrupted in the middle, it cleans up", async (t) => {
  const { output, status } = await demo("", "SIGTERM", "2. The daemon");
  t.equal(status, 143, output);
  nothingLeft(t, output);
});
