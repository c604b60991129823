/** A test process that never comes to its teardown: cleanup.test.ts ends it. */
import { workspaceDirectory } from "./cleanup.js";
import { startContainer } from "./container.js";

const container = await startContainer({ volumes: [{ target: "/data" }] });
process.stdout.write(`${workspaceDirectory()} ${container.initPid}\n`);
setInterval(() => undefined, 1000);
