// Writes the documentation pages that come from tables in the code.
import { writeFileSync } from "node:fs";
import { configurationMarkdown } from "../dist/config.js";
import { metricsMarkdown } from "../dist/metrics.js";

const pages = { "configuration.md": configurationMarkdown(), "metrics.md": metricsMarkdown() };
for (const [name, text] of Object.entries(pages)) writeFileSync(new URL(name, import.meta.url), text);
