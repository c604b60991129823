/** What applying a guard would change, as a unified diff. */
import { createTwoFilesPatch } from "diff";
import type { JanusdConfig } from "../gen/janus_pb.js";
import { formatResources, resourceOf } from "../guard/file-format.js";
import { labelOf } from "../guard/registry.js";

/** Both in the form that `get` prints. Empty: there is no difference. `file` names the new one. */
export function diffOf(live: JanusdConfig | undefined, next: JanusdConfig, file: string): string {
  const before = live === undefined ? "" : formatResources([resourceOf(live)]);
  const after = formatResources([resourceOf(next)]);
  if (before === after) return "";
  const name = live === undefined ? "/dev/null" : `live/${labelOf(live)}`;
  // Its first line only separates files.
  return createTwoFilesPatch(name, file, before, after).replace(/^=+\n/, "");
}
