/** The C++ units, which know nothing of Node: plain, and under the sanitizers. */
import t from "tap";

// The file's, too: the first run compiles everything three times.
t.setTimeout(600_000);

const run = new URL("../native/test/run", import.meta.url).pathname;

for (const variant of ["plain", "asan", "tsan"]) {
  t.test(variant, { timeout: 600_000 }, async (t) => {
    await t.spawn(run, [variant]);
  });
}
