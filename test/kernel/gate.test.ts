import { spawnSync } from "node:child_process";
import t from "tap";
import { startContainer } from "../support/container.js";
import { startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";

// It is the gate that is to answer, also where the kernel would.
const daemon = await startDaemon({ flags: ["--kernel-decides=false"] }, t);
const open = { name: "guard", podName: "pod" };
const O_DIRECTORY = 0o200000;

t.test("open, access, exec, all", async (t) => {
  const container = await startContainer(
    { files: { "/etc/secret": "s3cret", "/etc/open": "" }, programs: { "/etc/tool": "/bin/busybox" } },
    t,
  );
  const actor = await container.actor();
  const attempts = async () => ({
    open: await actor.open("/etc/secret"),
    read: await actor.read("/etc/secret"),
    exec: await actor.exec("/etc/tool"),
    elsewhere: await actor.read("/etc/open"),
  });
  const denied = async (...event: string[]) => {
    await daemon.createGuard(guardOn(container, { deny: ["/etc/secret", "/etc/tool"], event }));
    return attempts();
  };
  t.same(await attempts(), { open: 0, read: 0, exec: 0, elsewhere: 0 }, "nothing guards yet");
  t.same(await denied("open"), { open: EPERM, read: EPERM, exec: EPERM, elsewhere: 0 }, "exec opens, too");
  t.same(await denied("access"), { open: 0, read: EPERM, exec: EPERM, elsewhere: 0 }, "exec reads, too");
  t.same(await denied("exec"), { open: 0, read: 0, exec: EPERM, elsewhere: 0 });
  t.same(await denied("all"), { open: EPERM, read: EPERM, exec: EPERM, elsewhere: 0 });
  await daemon.destroyGuard(open);
  t.same(await attempts(), { open: 0, read: 0, exec: 0, elsewhere: 0 }, "nothing guards any more");
});

t.test("onlyDir: the directories, not their files", async (t) => {
  const container = await startContainer({ files: { "/etc/app/file": "", "/etc/app/sub/file": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/app"], onlyDir: true, recursive: true }));
  t.equal(await actor.open("/etc/app", O_DIRECTORY), EPERM);
  t.equal(await actor.open("/etc/app/sub", O_DIRECTORY), EPERM);
  t.equal(await actor.open("/etc/app/file"), 0);
  t.equal(await actor.open("/etc/app/sub/file"), 0);
  await daemon.destroyGuard(open);
});

t.test("what happened is in the log and in the metrics", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "", "/etc/public": "", "/etc/async/file": "" } }, t);
  const actor = await container.actor({ uid: 1000 });
  const from = daemon.lines.length;
  await daemon.createGuard(
    guardOn(
      container,
      [
        { deny: ["/etc"], allow: ["/etc/public"], recursive: true, tags: { b: "2", a: "1" } },
        { allow: ["/etc/async"], tags: { seen: "only" } },
      ],
      { name: "logged" },
    ),
  );
  t.equal(await actor.open("/etc/secret"), EPERM);
  t.equal(await actor.open("/etc/public"), 0);
  await daemon.waitForLine((line) => line === "<DENY> OPEN_PERM file '/etc/secret' (pod:testnode) a=1,b=2", from);
  await daemon.waitForLine((line) => line === "<ALLOW> OPEN_PERM file '/etc/public' (pod:testnode) a=1,b=2", from);
  t.equal(await daemon.metric("janusd_decisions_total", { guard: "logged", response: "deny" }), 1);
  t.equal(await daemon.metric("janusd_decisions_total", { guard: "logged", response: "allow" }), 1);
  t.equal(await daemon.metric("janusd_events_total", { guard: "logged", event: "open", response: "deny" }), 1);
  t.equal(await daemon.metric("janusd_decision_blocked_seconds_count", { guard: "logged", response: "deny" }), 1);
  t.equal(await daemon.metric("janusd_exposure_total"), 0);
  await daemon.destroyGuard({ name: "logged", podName: "pod" });
  t.equal(
    await daemon.metric("janusd_decisions_total", { guard: "logged", response: "deny" }),
    1,
    "a counter never goes down",
  );
});

t.test("an allow path that no deny path overlaps is observed, and answered if exactness is asked for", async (t) => {
  const container = await startContainer({ files: { "/etc/public": "" } }, t);
  const actor = await container.actor();
  for (const exact of [false, true]) {
    const name = exact ? "exact" : "observed";
    await daemon.createGuard(guardOn(container, { allow: ["/etc/public"], exact }, { name }));
    const { opened } = await actor.repeat("/etc/public", 1000);
    t.equal(opened, 1000);
    await daemon.waitForLine((line) => line === "<ALLOW> OPEN_PERM file '/etc/public' (pod:testnode) ");
    t.equal(await daemon.metric("janusd_decisions_total", { guard: name }), exact ? 1000 : 0);
    await daemon.destroyGuard({ name, podName: "pod" });
  }
});

t.test("a directory of the image that no guard is about is not asked about for long", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "", "/opt/public": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  const asked = () => daemon.metric("janusd_asked_total", { outcome: "unguarded" });
  const before = await asked();
  t.match(await actor.repeat("/opt/public", 1000), { opened: 1000 });
  const questions = (await asked()) - before;
  t.ok(questions > 0 && questions < 100, `${questions} questions about 1,000 opens`);
  await daemon.destroyGuard(open);
});

t.test("only container: scope leaves others alone", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  const fromNode = () => spawnSync("cat", [`${container.rootfs}/etc/secret`], { encoding: "utf8" });
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  t.match(fromNode(), { status: 1, stderr: /not permitted/ }, "the original's behaviour: everyone");
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"], scope: 1 }));
  t.match(fromNode(), { status: 0 });
  t.equal(await actor.open("/etc/secret"), EPERM);
  await daemon.destroyGuard(open);
});

t.test("event text: a line for each, control characters escaped", async (t) => {
  const container = await startContainer({}, t);
  const actor = await container.actor();
  const from = daemon.lines.length;
  await daemon.createGuard(guardOn(container, { deny: ["/data"], recursive: true }));
  t.equal(await actor.write("/tmp/x\n<ALLOW> OPEN_PERM file '/etc/forged", "x"), 2, "the name has slashes");
  const name = "x\n<ALLOW> OPEN_PERM file \x1b[2J";
  t.equal(await actor.open(`/data/${name}`, 0o100 | 0o1), EPERM);
  const line = await daemon.waitForLine((text) => text.includes("/data/x"), from);
  t.notMatch(line, /\p{Cc}/u);
  t.match(line, /^<DENY> OPEN_PERM file '\/data\/x.*<ALLOW> OPEN_PERM file .*' \(pod:testnode\) $/);
  t.same(
    daemon.lines.slice(from).filter((text) => text.startsWith("<ALLOW>")),
    [],
  );
  await daemon.destroyGuard(open);
});

t.test("a path of 18,000 bytes that looks like a line: text fits a runtime's line, JSON is whole", async (t) => {
  const levels = Array.from({ length: 15 }, () => "d".repeat(200)).join("/");
  const name = "x' (victim:node7) team=a\u202e\u2028\u009b";
  for (const format of ["text", "json"]) {
    const logging = await startDaemon({ flags: [`--log-format=${format}`] }, t);
    const container = await startContainer({ files: { "/data/s/x": "" } }, t);
    await logging.createGuard(guardOn(container, { deny: ["/data/s"], recursive: true }));
    const shell = await container.shell();
    // No path that it names is too long: it stands at the bottom while that is moved deeper.
    const { output } = await shell.run(
      `mkdir /data/0; cd /data/0; : > "${name}"; for i in 0 1 2 3 4 5; do n=$((i + 1)); mkdir -p /data/$n/${levels}; ` +
        `mv /data/$i /data/$n/${levels}/m; done; mv /data/6 /data/s/6; cat "${name}"`,
    );
    t.match(output, "Operation not permitted");
    const line = await logging.waitForLine((line) => line.includes("victim"));
    const path = `/data/s/6${`/${levels}/m`.repeat(6)}/${name}`;
    const byKernel = (await logging.metric("janusd_kernel_decides")) === 1;
    if (format === "json") {
      const told: { path: string; asked: string } = JSON.parse(line);
      t.equal(told.asked, name);
      // Of what the kernel denies by itself it keeps the last 4,096 bytes: some whole components.
      if (byKernel) {
        t.ok(told.path.startsWith(".../") && path.endsWith(told.path.slice(3)), told.path.slice(0, 100));
        t.ok(Buffer.byteLength(told.path) > 3840, `${Buffer.byteLength(told.path)} bytes`);
      } else t.equal(told.path, path);
      t.match(line, "x' (victim:node7) team=a\\u202e\\u2028\\u009b\"");
    } else {
      t.ok(Buffer.byteLength(line) < 16_384, `${Buffer.byteLength(line)} bytes, and a newline`);
      t.ok(line.startsWith(`<DENY> OPEN_PERM file '${byKernel ? ".../" : "/data/s/6/ddd"}`), line.slice(0, 100));
      const end = "d/m/x\\x27 (victim:node7) team=a\\xe2\\x80\\xae\\xe2\\x80\\xa8\\xc2\\x9b' (pod:testnode) ";
      t.ok(line.endsWith(end), line.slice(-200));
      if (!byKernel) t.match(line, /d\\\.\.\.d/, "what is left out is marked");
    }
    t.notMatch(line, /[\p{Cc}\u2028\u202e]/u);
    const quotes =
      format === "text" ? "text quotes the path" : "JSON has the name in the path, and as it was asked for";
    t.equal((line.match(/'/g) ?? []).length, 2, quotes);
    await logging.stop();
  }
});

t.test("a log format of its own", async (t) => {
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor({ uid: 1234 });
  await daemon.createGuard(
    guardOn(
      container,
      { deny: ["/etc/secret"] },
      { logFormat: "{name} {namespace} {container} {uid} {comm} {exe} {path} {{}}", namespace: "ns" },
    ),
  );
  t.equal(await actor.open("/etc/secret"), EPERM);
  const line = await daemon.waitForLine((text) => text.startsWith("guard ns "));
  t.equal(line, `guard ns ${container.id} 1234 actor /bin/actor /etc/secret {}`);
  await daemon.destroyGuard({ ...open, namespace: "ns" });
});

t.test("JSON log", async (t) => {
  const jsonDaemon = await startDaemon({ flags: ["--log-format=json"] }, t);
  const container = await startContainer({ files: { "/etc/sec\nret": "" } }, t);
  const actor = await container.actor({ uid: 1234 });
  await jsonDaemon.createGuard(
    guardOn(container, { deny: ["/etc"], recursive: true, tags: { k: "v" } }, { namespace: "ns" }),
  );
  t.equal(await actor.open("/etc/sec\nret"), EPERM);
  const event: unknown = JSON.parse(await jsonDaemon.waitForLine((line) => line.includes("sec")));
  t.match(event, {
    response: "DENY",
    event: "OPEN_PERM",
    path: "/etc/sec\nret",
    pod: "pod",
    node: "testnode",
    uid: 1234,
    comm: "actor",
  });
  await jsonDaemon.stop();
});
