/** The addon's C++ units, which know nothing of Node: plain, and under the sanitizers. */
import t from "tap";

/** The first run compiles everything three times, with what time of the processors the other tests leave. */
const limitMs = 1_800_000;
t.setTimeout(limitMs); // the file's, too

const run = new URL("../native/test/run", import.meta.url).pathname;

for (const variant of ["plain", "asan", "tsan"]) {
  t.test(variant, { timeout: limitMs }, async (t) => {
    await t.spawn(run, [variant]);
  });
}
