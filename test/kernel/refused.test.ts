import t, { type Test } from "tap";
import { Scope } from "../../src/gen/janus_pb.js";
import { startContainer } from "../support/container.js";
import { type GuardInit, rpcError, startDaemon } from "../support/daemon.js";
import { guardOn } from "../support/guard.js";

const daemon = await startDaemon({ flags: ["--container-wait=0", "--kernel-decides=false"] }, t);
const container = await startContainer({ files: { "/etc/secret": "" } }, t);
const actor = await container.actor();
const valid = { deny: ["/etc/secret"], event: ["open"] };

/** A test whose requests leave everything as it was: no guard is listed, and nothing is denied. */
function unchanging(name: string, body: (t: Test) => Promise<void>): void {
  t.test(name, async (t) => {
    await body(t);
    t.same(await daemon.getGuardState(), [], "nothing is guarded");
    t.equal(await actor.open("/etc/secret"), 0, "nothing is denied");
  });
}

/** name -> the request, the field that is wrong, what the message must name. */
const invalid: Record<string, [GuardInit, RegExp, RegExp]> = {
  "no subject": [guardOn(container, []), /^subject$/, /./],
  "unknown event": [guardOn(container, { ...valid, event: ["opened"] }), /^subject\[0\]\.event\[0\]$/, /open/],
  "upper-case event": [guardOn(container, { ...valid, event: ["OPEN"] }), /^subject\[0\]\.event\[0\]$/, /open/],
  "no event": [guardOn(container, { ...valid, event: [] }), /^subject\[0\]\.event$/, /./],
  "relative path": [guardOn(container, { ...valid, deny: ["etc/secret"] }), /^subject\[0\]\.deny\[0\]$/, /absolute/],
  "empty path": [guardOn(container, { ...valid, deny: [""] }), /^subject\[0\]\.deny\[0\]$/, /./],
  "no path": [guardOn(container, { event: ["open"] }), /^subject\[0\]/, /./],
  "bad log format": [
    guardOn(container, valid, { logFormat: "{path} {bogus}" }),
    /^logFormat$/,
    /\b7\b.*bogus|bogus.*\b7\b/,
  ],
  "no container": [guardOn(container, valid, { cid: [] }), /^cid$/, /./],
  "neither name nor pod": [guardOn(container, valid, { name: "", podName: "" }), /^name$/, /./],
  "a short prefix": [
    guardOn(container, valid, { cid: [`containerd://${container.id.slice(0, 4)}`] }),
    /^cid\[0\]$/,
    /./,
  ],
  "a wildcard": [guardOn(container, valid, { cid: ["containerd://*"] }), /^cid\[0\]$/, /./],
  "an empty id": [guardOn(container, valid, { cid: ["containerd://"] }), /^cid\[0\]$/, /./],
  "second subject wrong: the first isn't there either": [
    guardOn(container, [valid, { deny: ["x"] }]),
    /^subject\[1\]\.deny\[0\]$/,
    /./,
  ],
};

for (const [name, [request, field, message]] of Object.entries(invalid)) {
  unchanging(`INVALID_ARGUMENT: ${name}`, async (t) => {
    const error = await rpcError(daemon.createGuard(request));
    t.equal(error.code, "INVALID_ARGUMENT", error.message);
    const found = error.violations.find((violation) => field.test(violation.field));
    t.ok(found, JSON.stringify(error.violations));
    t.match(found?.description, message);
  });
}

unchanging("NOT_FOUND: unknown container", async (t) => {
  const error = await rpcError(daemon.createGuard(guardOn(container, valid, { cid: ["f".repeat(64)] })));
  t.equal(error.code, "NOT_FOUND");
  t.match(error.message, "f".repeat(64));
});

unchanging("NOT_FOUND: one of two containers unknown: neither is guarded", async (t) => {
  const error = await rpcError(daemon.createGuard(guardOn(container, valid, { cid: [container.id, "f".repeat(64)] })));
  t.equal(error.code, "NOT_FOUND");
});

unchanging("FAILED_PRECONDITION: changes, where the kernel decides nothing", async (t) => {
  for (const event of ["create", "delete", "move", "attrib", "link", "truncate", "write"]) {
    const changes = { ...valid, event: ["open", event], scope: Scope.CONTAINER };
    const error = await rpcError(daemon.createGuard(guardOn(container, changes)));
    t.equal(error.code, "FAILED_PRECONDITION");
    t.match(error.message, /kernel-decides/, error.message);
  }
});

unchanging("a refused change leaves the guard as it was", async (t) => {
  const name = "stays";
  const other = await startContainer({ files: { "/etc/secret": "" } }, t);
  const inside = await other.actor();
  await daemon.createGuard(guardOn(other, valid, { name }));
  await rpcError(daemon.createGuard(guardOn(other, { ...valid, deny: ["relative"] }, { name })));
  t.equal(await inside.open("/etc/secret"), 1);
  await daemon.destroyGuard({ name, podName: "pod" });
});

unchanging("exact ids: 12 characters are enough, 64 are", async (t) => {
  for (const cid of [
    container.id.slice(0, 12),
    `docker://${container.id.slice(0, 12)}`,
    container.id,
    `cri-o://${container.id}`,
  ]) {
    await daemon.createGuard(guardOn(container, valid, { cid: [cid] }));
    t.equal(await actor.open("/etc/secret"), 1, cid);
    await daemon.destroyGuard({ podName: "pod" });
  }
});

unchanging("a short id that fits two containers is refused", async (t) => {
  const twins = ["a", "b"].map((end) => container.id.slice(0, 40).replace(/^.{4}/, "beef") + end.repeat(24));
  for (const id of twins) await startContainer({ id }, t);
  const error = await rpcError(daemon.createGuard(guardOn(container, valid, { cid: [twins[0]?.slice(0, 12) ?? ""] })));
  t.equal(error.code, "INVALID_ARGUMENT");
  t.match(error.message, /ambiguous|several/i);
});
