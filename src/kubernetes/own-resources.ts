/** Our own kinds of resources, as requests about them name them. */
import { type ConfigurationOptions, PatchStrategy, setHeaderOptions } from "@kubernetes/client-node";
import { GROUP, VERSION } from "../guard/document.js";
import type { ResourceKind } from "../guard/registry.js";

export const OWN_GROUP = { group: GROUP, version: VERSION } as const;

export const PLURALS: Readonly<Record<ResourceKind, string>> = {
  JanusGuard: "janusguards",
  ClusterJanusGuard: "clusterjanusguards",
};

/** Says in a patch whose the fields are. */
export const FIELD_MANAGER = "janusd";

/** Of a patch: fields that it lacks stay as they are. */
export function mergePatch(): ConfigurationOptions {
  return setHeaderOptions("Content-Type", PatchStrategy.MergePatch);
}

/** `janusguards.januscontroller.clustergarage.io`, for people. */
export function resourceName(plural: string): string {
  return `${plural}.${GROUP}`;
}

/** Of all there are of a kind. */
export function resourcePath(plural: string): string {
  return `/apis/${GROUP}/${VERSION}/${plural}`;
}
