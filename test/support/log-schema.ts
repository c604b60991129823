/** The published schema of what the daemon prints. */
import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";

export const LOG_SCHEMA: Readonly<Record<string, unknown>> = JSON.parse(
  readFileSync(new URL("../../deploy/schema/janusd-log.v1.schema.json", import.meta.url), "utf8"),
);

// `true` stands for a field that another part of the schema describes.
const validate = new Ajv2020({ allErrors: true, strict: true, strictTypes: false, strictRequired: false }).compile(
  LOG_SCHEMA,
);

/** What the schema has against a line; empty if nothing. */
export function schemaFaults(line: string): string[] {
  if (validate(JSON.parse(line))) return [];
  return (validate.errors ?? []).map(({ instancePath, message, params }) =>
    `${instancePath} ${message} ${JSON.stringify(params)}`.trim(),
  );
}
