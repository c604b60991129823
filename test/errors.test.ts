import t from "tap";
import { isNativeError, JanusdError } from "../src/errors.js";
import { nativeError } from "./support/engine-recorder.js";

t.test("whatever was thrown becomes one of ours, and stays as the cause", async (t) => {
  const ours = JanusdError.notFound("c", { cause: new Error("searched") });
  t.equal(JanusdError.from(ours), ours);
  for (const thrown of [new TypeError("oops"), "text", undefined, { code: "NOT_FOUND" }]) {
    const error = JanusdError.from(thrown);
    t.equal(error.data.kind, "internal");
    t.equal(error.cause, thrown);
  }
  t.match(JanusdError.from(new TypeError("oops")).message, "oops");
});

t.test("native errors keep what there is to log", async (t) => {
  const details = { errno: 28, operation: "fanotify_mark", target: "/x", subjectIndex: 1, path: "/y" };
  t.same(JanusdError.from(nativeError("SYSTEM", details)).data, {
    kind: "system",
    errno: 28,
    operation: "fanotify_mark",
    target: "/x",
    path: "/y",
  });
  t.same(JanusdError.from(nativeError("NOT_FOUND", { target: "c" })).data, { kind: "not_found", container: "c" });
  t.same(JanusdError.from(nativeError("UNSUPPORTED")).data, { kind: "unsupported" });
});

t.test("what only looks like a native error isn't one", async (t) => {
  t.ok(isNativeError(nativeError("EXHAUSTED")));
  t.notOk(isNativeError(nativeError("SYSTEM", { errno: "28" })));
  t.notOk(isNativeError({ code: "SYSTEM" }));
  t.notOk(isNativeError(Object.assign(new Error(), { code: "ENOENT" })));
});

t.test("an invalid request says all its violations in its message", async (t) => {
  const error = JanusdError.invalid([
    { field: "a", description: "is bad" },
    { field: "b[0]", description: "too" },
  ]);
  t.equal(error.message, "a: is bad; b[0]: too");
});
