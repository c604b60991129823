/** Writes the CustomResourceDefinitions: into the chart, and as one file for `kubectl apply`. Part of `make docs`. */
import { mkdirSync, writeFileSync } from "node:fs";
import { stringify } from "yaml";
import { definitions } from "./resources.ts";

const HEADER = "# Generated from deploy/crds by `make docs`. Do not edit.\n";
const deploy = new URL("../", import.meta.url);
const chart = new URL("helm/janusd/files/crds/", deploy);

mkdirSync(chart, { recursive: true });
const all = [...definitions].map(([plural, definition]) => {
  const yaml = stringify(definition, { lineWidth: 100, aliasDuplicateObjects: false });
  writeFileSync(new URL(`${plural}.yaml`, chart), HEADER + yaml);
  return yaml;
});
writeFileSync(new URL("crd.yaml", deploy), HEADER + all.join("---\n"));
