/**
 * Listens on a Unix socket: the path is a line of its input, an empty line ends it. Says on its output how that went,
 * and to whoever connects its pid.
 */
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { listen, SocketLocks } from "../../src/bind.js";
import { loadAddon } from "../../src/native.js";

const addon = loadAddon();
const say = (line: string) => process.stdout.write(`${line}\n`);
say("there");
let end = async (): Promise<unknown> => undefined;
for await (const path of createInterface({ input: process.stdin })) {
  if (path === "") {
    await end();
    say("ended");
    continue;
  }
  const locks = new SocketLocks(addon);
  const server = createServer((socket) => socket.on("error", () => undefined).end(String(process.pid)));
  try {
    await listen(server, { path }, "--listen", locks);
    say("listening");
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
  }
  end = async () => {
    if (server.listening) await new Promise((resolve) => server.close(resolve));
    locks.close();
  };
}
