/** The addon's engine in the test's own process, for what gRPC doesn't tell. */
import { parseConfig } from "../../src/config.js";
import { type Engine, loadAddon } from "../../src/native.js";

/** Guards nothing until it is told to; stopped with the test. */
export function startEngine(t: { teardown(handler: () => void): unknown }): Engine {
  const { Engine } = loadAddon();
  const engine = new Engine({ ...parseConfig([], {}, "test").engine, stalls: 0 }, () => undefined);
  engine.start();
  t.teardown(() => engine.stop());
  return engine;
}
