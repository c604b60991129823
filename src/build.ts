/** What this is: the version and the commit that it was built of. */
import { readFileSync } from "node:fs";

export interface BuildInfo {
  readonly version: string;
  readonly commit: string;
}

export function readBuild(): BuildInfo {
  return { version: packageVersion(), commit: checkoutCommit() };
}

function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  if (typeof manifest === "object" && manifest !== null && "version" in manifest) return String(manifest.version);
  return "unknown";
}

/** Of the checkout that this runs from, or what the image was built of. */
function checkoutCommit(): string {
  const named = process.env["JANUSD_COMMIT"];
  if (named !== undefined && named !== "") return named;
  try {
    const git = new URL("../.git/", import.meta.url);
    const head = readFileSync(new URL("HEAD", git), "utf8").trim();
    return head.startsWith("ref: ") ? readFileSync(new URL(head.slice(5), git), "utf8").trim() : head;
  } catch {
    return "unknown";
  }
}
