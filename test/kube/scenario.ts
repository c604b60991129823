/** What a scenario is given. */
import type { Test } from "tap";
import type { Cluster } from "./cluster.js";
import type { Janusd } from "./janusd.js";

/** `janusd` is installed, and guards nothing. */
export type Scenario = (t: Test, cluster: Cluster, janusd: Janusd) => Promise<void>;
