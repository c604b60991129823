/** The native parts that take what a container controls: some seconds each. `make fuzz` and `make soak` take longer. */
import t from "tap";

// The first run compiles.
t.setTimeout(600_000);

const run = new URL("../native/test/fuzz/run", import.meta.url).pathname;

t.test("no input makes one of them fail, or take a second", { timeout: 600_000 }, async (t) => {
  await t.spawn(run, ["2"]);
});
