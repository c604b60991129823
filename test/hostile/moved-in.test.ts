/** What is moved into a guarded tree of an overlay, by whom the guard doesn't ask, doesn't get out again unasked. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { Scope } from "../../src/gen/janus_pb.js";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

for (const who of ["an exempt owner", "the node"] as const) {
  for (const how of ["link", "rename"] as const) {
    t.test(`by ${who}, then out by ${how}`, async (t) => {
      const daemon = await startDaemon({}, t);
      const files = { "/secrets/old": "old", "/secrets/sub/old": "old", "/opt/app/pub": "" };
      const container = await startContainer({ init: "actor", files }, t);
      const other = await container.actor();
      const except = who === "the node" ? { scope: Scope.CONTAINER } : { autoAllowOwner: true };
      await daemon.createGuard(guardOn(container, { deny: ["/secrets"], recursive: true, ...except }));
      // The first in a directory has it copied up; the second finds it so. One directory is new.
      const names = ["token", "second", "sub/token", "sub/second", "new/token"];
      if (who === "the node") mkdirSync(join(container.rootfs, "secrets/new"));
      else t.equal(await container.init.mkdir("/secrets/new"), 0);
      for (const name of names) {
        if (who === "the node") {
          writeFileSync(join(container.rootfs, "secrets", name), "s3cret");
        } else {
          t.equal(await container.init.write("/tmp/x", "s3cret"), 0);
          t.equal(await container.init.rename("/tmp/x", `/secrets/${name}`), 0);
        }
      }
      await later(500);
      t.equal(await other.open("/opt/app/pub"), 0, "teaches that /opt/app is outside");
      for (const name of names) {
        t.equal(await other[how](`/secrets/${name}`, "/opt/app/out"), 0, name);
        const { opened, denied } = await other.repeat("/opt/app/out", 100);
        t.same({ opened, denied }, { opened: 0, denied: 100 }, name);
        t.equal(await other.unlink("/opt/app/out"), 0);
      }
      t.equal(await other.open("/secrets/old"), EPERM);
      await daemon.stop();
    });
  }
}
