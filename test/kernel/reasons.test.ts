/** Several guards on one thing, by different paths and events: each holds, whatever becomes of the others. */
import t from "tap";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn, type SubjectInit } from "../support/guard.js";

for (const place of ["layer", "volume"] as const) {
  t.test(`on the ${place}: a guard that goes loosens nothing that another denies`, async (t) => {
    const daemon = await startDaemon({}, t);
    const container = await startContainer({ volumes: place === "volume" ? [{ target: "/data" }] : [] }, t);
    const shell = await container.shell();
    await shell.run("mkdir -p /data/a /data/b /data/out; cp /bin/true /data/a/true; ln /data/a/true /data/b/true");
    const actor = await container.actor();
    const exec = guardOn(container, { deny: ["/data/a"], event: ["exec"] }, { name: "exec" });
    const open = guardOn(container, { deny: ["/data/b"] }, { name: "open" });
    const runs = async () => (await container.exec(["/data/out/true"])).status === 0;
    for (const [first, second] of [
      [exec, open],
      [open, exec],
    ] as const) {
      await daemon.createGuard(first);
      await daemon.createGuard(second);
      t.equal(await actor.link("/data/a/true", "/data/out/true"), 0);
      t.equal(await actor.open("/data/out/true"), EPERM, "as the one guard says");
      t.equal(await runs(), false, "as the other says");
      await daemon.destroyGuard(first);
      t.equal(await actor.open("/data/out/true"), second === open ? EPERM : 0);
      if (second === exec) t.equal(await runs(), false);
      await daemon.destroyGuard(second);
      t.equal(await actor.open("/data/out/true"), 0);
      t.equal(await runs(), true, "nobody guards it any more");
      t.equal(await actor.unlink("/data/out/true"), 0);
    }
    await daemon.stop();
  });
}

t.test("the owner is exempt by one guard, and not by the other", async (t) => {
  const daemon = await startDaemon({}, t);
  const files = { "/a/f": "", "/a/sub/f": "", "/out/x": "" };
  const container = await startContainer({ init: "actor", files }, t);
  await daemon.createGuard(guardOn(container, { deny: ["/a"], recursive: true }, { name: "strict" }));
  const exempt = { deny: ["/a/sub"], allow: ["/a/f"], recursive: true, autoAllowOwner: true };
  await daemon.createGuard(guardOn(container, exempt, { name: "loose" }));
  for (const path of ["/a/sub/f", "/a/f"]) t.equal(await container.init.open(path), EPERM, path);
  await daemon.destroyGuard({ name: "strict", podName: "pod" });
  for (const path of ["/a/sub/f", "/a/f"]) t.equal(await container.init.open(path), 0, path);
  t.equal(await (await container.actor()).open("/a/sub/f"), EPERM);
  await daemon.stop();
});

t.test("a tree that two guards have been in is judged as part of both, however deep", async (t) => {
  const daemon = await startDaemon({}, t);
  const container = await startContainer({ volumes: [{ target: "/data" }] }, t);
  const shell = await container.shell();
  const deep = (levels: number) => Array.from({ length: levels }, () => "d").join("/");
  await shell.run(
    `mkdir -p /data/x/top /data/o/${deep(6)} /data/o/${deep(70)} && cp /bin/true /data/o/${deep(6)}/true`,
  );
  await shell.run(`cp /bin/true /data/o/${deep(70)}/true`);
  for (const levels of [6, 70]) t.equal((await container.exec([`/data/o/${deep(levels)}/true`])).status, 0);
  await daemon.createGuard(guardOn(container, { deny: ["/data/x"], event: ["exec"], recursive: true }, { name: "x" }));
  await daemon.createGuard(guardOn(container, { deny: ["/data/o"], recursive: true }, { name: "o" }));
  const actor = await container.actor();
  t.equal(await actor.rename("/data/x/top", "/data/free"), 0);
  t.equal(await actor.rename("/data/o/d", "/data/free/d"), 0);
  for (const levels of [6, 70]) {
    const path = `/data/free/${deep(levels)}/true`;
    t.equal(await actor.open(path), EPERM, `${levels} levels`);
    t.not((await container.exec([path])).status, 0, `${levels} levels`);
  }
  await daemon.stop();
});

t.test("every guard that denies an open is named, in text and in JSON", async (t) => {
  const container = await startContainer({ files: { "/a/f": "", "/a/mine": "", "/b/x": "" } }, t);
  const actor = await container.actor();
  t.equal(await actor.link("/a/f", "/b/f"), 0);
  for (const format of ["text", "json"]) {
    const daemon = await startDaemon({ flags: [`--log-format=${format}`] }, t);
    const guard = (name: string, subject: SubjectInit) =>
      daemon.createGuard(guardOn(container, subject, { name, namespace: "ns" }));
    await guard("file", { deny: ["/a/f"] });
    await guard("tree", { deny: ["/a"], allow: ["/a/f"], recursive: true });
    await guard("other-name", { deny: ["/b/f"] });
    await guard("twice", { deny: ["/a/f", "/b/f"] });
    await guard("exec", { deny: ["/a/f"], event: ["exec"] });
    const named = async (path: string) => {
      const from = daemon.lines.length;
      t.equal(await actor.open(path), EPERM, path);
      const line = await daemon.waitForLine((line) => line.includes(path), from);
      if (format === "text") return line.split(" denied by ")[1]?.split(", ").sort();
      const { guard, guards, guardsCut } = JSON.parse(line);
      if (guards !== undefined) t.match({ first: guards[0], guardsCut }, { first: `ns/${guard}`, guardsCut: false });
      return guards?.sort();
    };
    t.same(await named("/a/f"), ["ns/file", "ns/other-name", "ns/twice"], "it is one file");
    t.equal(await named("/a/mine"), undefined, "one guard denies: nothing is added");
    await daemon.stop();
  }
});

t.test("more guards deny than a record has room for: it says so", async (t) => {
  const daemon = await startDaemon({ flags: ["--log-format=json"] }, t);
  const container = await startContainer({ files: { "/a/f": "" } }, t);
  const actor = await container.actor();
  for (let name = 1; name <= 16; name++)
    await daemon.createGuard(guardOn(container, { deny: ["/a/f"] }, { name: `g${name}` }));
  const event = async () => {
    const from = daemon.lines.length;
    t.equal(await actor.open("/a/f"), EPERM);
    return JSON.parse(await daemon.waitForLine((line) => line.includes("/a/f"), from));
  };
  const all = Array.from({ length: 16 }, (_, index) => `g${index + 1}`).sort();
  const full = await event();
  t.same([full.guards.sort(), full.guardsCut], [all, false]);
  await daemon.createGuard(guardOn(container, { deny: ["/a/f"] }, { name: "g17" }));
  const cut = await event();
  t.same([new Set(cut.guards).size, cut.guardsCut], [16, true]);
  await daemon.stop();
});
