/** native/ is a house of rooms: what is in one may include only what is in it or in one that stands before it here. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";

/** Each may include itself and all before it. `engine` is what stands in native/ itself. */
const rooms = ["os", "record", "policy", "ebpf", "track", "identity", "cover", "decide", "hold", "engine", "addon"];

/** Programs of their own, or generated: no rooms of the addon. */
const apart = ["test", "build"];

const native = new URL("../native", import.meta.url).pathname;

t.test("each room includes only what stands below it, and Node is known in addon/ alone", async (t) => {
  const found = readdirSync(native, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const named = found.map(({ name }) => name).filter((name) => !apart.includes(name));
  t.same(named.sort(), rooms.filter((room) => room !== "engine").sort(), "every room has its place in the order");

  const wrong: string[] = [];
  for (const room of rooms) {
    const directory = room === "engine" ? native : join(native, room);
    for (const file of readdirSync(directory).filter((name) => /\.(cc|h)$/.test(name))) {
      const text = readFileSync(join(directory, file), "utf8");
      for (const [, included = ""] of text.matchAll(/^#include "([^"]+)"/gm)) {
        if (included.startsWith("bpf/")) continue;
        const of = included.includes("/") ? (included.split("/")[0] ?? "") : "engine";
        if (rooms.indexOf(of) === -1 || rooms.indexOf(of) > rooms.indexOf(room))
          wrong.push(`${room}/${file}: ${included}`);
      }
      if (room !== "addon" && /^#include <napi/m.test(text)) wrong.push(`${room}/${file}: napi.h`);
    }
  }
  t.same(wrong, []);
});
