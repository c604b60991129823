/** The event stream of a real daemon: `janusctl events` and `top`, what a slow client loses, and the daemon's end. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import t from "tap";
import type { WatchItem } from "../../src/gen/janus/v1/events_pb.js";
import { startContainer } from "../support/container.js";
import { eventually, realEnvironment, rpcError, startDaemon } from "../support/daemon.js";
import { EPERM, guardOn } from "../support/guard.js";
import { janusctl } from "../support/janusctl.js";

const program = new URL("../../bin/janusctl", import.meta.url).pathname;

t.test("who was denied what: in the past, from a number on, and as it happens", async (t) => {
  const daemon = await startDaemon({}, t);
  const address = ["--address", daemon.grpcAddress];
  const container = await startContainer({ files: { "/etc/secret": "", "/etc/open": "", "/etc/\u001b[31m": "" } }, t);
  const actor = await container.actor({ uid: 1000 });
  const subject = { deny: ["/etc"], allow: ["/etc/open"], recursive: true, exact: true };
  await daemon.createGuard(
    guardOn(container, subject, { name: "g", namespace: "web", containerNames: { [container.id]: "app" } }),
  );

  const [command, unset] = realEnvironment;
  const follower = spawn(command, [unset, "JANUSD_INSECURE=true", program, ...address, "events", "-f", "--deny"]);
  t.teardown(() => follower.kill());
  const lines: string[] = [];
  createInterface({ input: follower.stdout }).on("line", (line) => lines.push(line));
  const ended = once(follower, "exit");
  await eventually("it follows", async () => (await daemon.metric("janusd_event_streams")) === 1);

  t.equal(await actor.open("/etc/secret"), EPERM);
  t.equal(await actor.open("/etc/open"), 0);
  t.equal(await actor.open("/etc/\u001b[31m"), EPERM);
  await eventually("both that were denied came", () => lines.length === 2);
  t.match(lines[0], /^\S+Z DENY open '\/etc\/secret' pod\/app web\/g actor\[\d+\]$/);
  t.match(lines[1], /^\S+Z DENY open '\/etc\/\\x1b\[31m' pod\/app web\/g actor\[\d+\]$/);

  const listed = await janusctl([...address, "events", "-o", "wide", "--since", "1m"]);
  t.match(listed, { status: 0, err: "" });
  t.match(listed.out, / DENY open '\/etc\/secret' .* uid=1000 exe='\/bin\/actor' .* node=testnode seq=\d+ /);
  t.match(listed.out, / ALLOW open '\/etc\/open' /);
  const found = async (...args: string[]): Promise<{ path: string; sequence: string }[]> =>
    (await janusctl([...address, "events", "-o", "json", ...args])).out
      .split("\n")
      .flatMap((line) => (line === "" ? [] : JSON.parse(line).event));
  const paths = async (...args: string[]): Promise<string[]> => (await found(...args)).map(({ path }) => path);
  const [, second] = await found();
  t.same(await paths("--since", String(second?.sequence)), ["/etc/open", "/etc/\u001b[31m"]);
  t.same(await paths("--not", "path=/etc/open", "--guard", "web/g", "--container", "app"), [
    "/etc/secret",
    "/etc/\u001b[31m",
  ]);
  t.same(await paths("--path", "/etc/s*"), ["/etc/secret"]);
  t.same(await paths("--guard", "other"), []);
  t.match(await janusctl([...address, "events", "--path", "etc"]), {
    status: 1,
    out: "",
    err: "janusctl: INVALID_ARGUMENT: include.paths[0]: must begin with / or **\n",
  });
  t.match(await janusctl([...address, "events", "--not", "exe=/bin/[a"]), {
    status: 1,
    out: "",
    err: "janusctl: INVALID_ARGUMENT: exclude.executables[0]: has a [ (position 5) that is never closed\n",
  });
  t.match(await janusctl([...address, "events", "--since", "999999"]), {
    status: 1,
    err: /since_sequence: the next event is \d+: /,
  });

  const rates = janusctl([...address, "top", "--once", "--by", "path", "--deny", "--interval", "3"]);
  await eventually("top looks on", async () => (await daemon.metric("janusd_event_streams")) === 2);
  await actor.repeat("/etc/secret", 10);
  t.match(
    (await rates).out,
    /^DENIED\/S +AUDITED\/S +ALLOWED\/S +EVENTS +PATH\n3\.3 +0\.0 +0\.0 +10 +\/etc\/secret\n$/,
  );

  await daemon.stop();
  const [status] = await ended;
  t.equal(status, 1, "the daemon's end is no good end of what was to go on");
});

t.test("one that takes nothing loses its own events, is told so, and holds up nobody", async (t) => {
  // Each open is to wait for the gate. A kernel that denies by itself waits for nobody: its ring would lose some, too.
  const daemon = await startDaemon({ flags: ["--event-history", "1M", "--kernel-decides=false"] }, t);
  const container = await startContainer({ files: { "/etc/secret": "" } }, t);
  const actor = await container.actor();
  await daemon.createGuard(guardOn(container, { deny: ["/etc/secret"] }));
  const opens = 40_000;
  const slow = daemon.client.watch({ follow: true });
  const first = await slow.next();
  t.match(first.value, [{ item: { case: "opened" } }]);
  let seen = 0;
  let lost = 0;
  const brisk = (async () => {
    for await (const items of daemon.client.watch({ follow: true })) {
      for (const { item } of items) {
        if (item.case === "event") seen++;
        if (item.case === "lost") lost += Number(item.value.count);
      }
      if (seen + lost === opens) return;
    }
  })();
  await eventually("both look on", async () => (await daemon.metric("janusd_event_streams")) === 2);
  t.match(await actor.repeat("/etc/secret", opens), { denied: opens });
  await brisk;
  await eventually("the log has all of them", () => daemon.lines.length === opens);
  t.equal(await daemon.metric("janusd_events_lost_total"), 0);

  const counted = { events: 0, lost: 0 };
  const count = (items: readonly WatchItem[]): void => {
    for (const { item } of items) {
      if (item.case === "event") counted.events++;
      if (item.case === "lost") counted.lost += Number(item.value.count);
    }
  };
  for await (const items of slow) {
    count(items);
    if (counted.events + counted.lost === opens) break;
  }
  t.ok(counted.lost > 0, `${counted.lost} lost`);
  t.ok((await daemon.metric("janusd_event_stream_lost_total", { cause: "queue" })) > 0);
  await eventually("they have left", async () => (await daemon.metric("janusd_event_streams")) === 0);
  await daemon.stop();
});

t.test("no more than 64 at once; their daemon ends in time all the same", async (t) => {
  const daemon = await startDaemon({}, t);
  const streams = Array.from({ length: 64 }, () => daemon.client.watch({ follow: true }));
  await Promise.all(streams.map((stream) => stream.next()));
  t.match(await rpcError(daemon.client.watch({}).next()), {
    code: "RESOURCE_EXHAUSTED",
    message: /^64 clients follow/,
  });
  const ends = streams.map((stream) => rpcError(stream.next()));
  process.kill(daemon.pid, "SIGTERM");
  for (const end of ends) t.match(await end, { code: "UNAVAILABLE", message: "the daemon is stopping" });
  t.match(await daemon.ended(), { code: 0 });
});
