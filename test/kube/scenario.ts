/** What a scenario is given. */
import type { Test } from "tap";
import type { Cluster } from "./cluster.js";

export type Scenario = (t: Test, cluster: Cluster) => Promise<void>;
