// flood.cjs PORT PATH CONNECTIONS: that many connections of 127.0.0.1 ask for
// PATH, each again as soon as it was answered, until the process is killed.
// Says "flooding" once all of them were answered.
const net = require("node:net");

const [port, path, connections] = process.argv.slice(2);
let answered = 0;
for (let index = 0; index < Number(connections); ++index) {
  const socket = net.connect(Number(port), "127.0.0.1");
  const ask = () => socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
  let head = "";
  let left = 0;
  socket.on("connect", ask);
  socket.on("error", () => undefined); // The daemon has ended.
  socket.on("data", (chunk) => {
    if (left > 0) {
      left -= chunk.length;
    } else {
      head += chunk.toString("latin1");
      const end = head.indexOf("\r\n\r\n");
      if (end === -1) return;
      left = Number(/content-length: (\d+)/i.exec(head)[1]) - (head.length - end - 4);
      head = "";
    }
    if (left > 0) return;
    if (++answered === Number(connections)) process.stdout.write("flooding\n");
    ask();
  });
}
