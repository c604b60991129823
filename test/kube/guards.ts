/** Guards of the suite, as resources. */
import { secret } from "./images.js";

export const DENIED = /Operation not permitted/;

export interface GuardOptions {
  readonly namespace?: string;
  /** Default: `secret`. */
  readonly deny?: readonly string[];
  readonly recursive?: boolean;
  /** More about the spec. */
  readonly spec?: object;
}

/** On pods with these labels, for opens by the container itself. */
export function guardManifest(
  name: string,
  matchLabels: Readonly<Record<string, string>>,
  options: GuardOptions = {},
): object {
  const { namespace = "default", deny = [secret], recursive = false, spec } = options;
  const subject = { deny, events: ["open"], scope: "container", ...(recursive ? { recursive } : {}) };
  return {
    ...{ apiVersion: "januscontroller.clustergarage.io/v1alpha1", kind: "JanusGuard", metadata: { name, namespace } },
    spec: { selector: { matchLabels }, subjects: [subject], ...spec },
  };
}

/** Of all namespaces that have these labels. */
export function clusterGuardManifest(
  name: string,
  namespaceLabels: Readonly<Record<string, string>>,
  matchLabels: Readonly<Record<string, string>>,
): object {
  const subject = { deny: [secret], events: ["open"], scope: "container" };
  return {
    ...{ apiVersion: "januscontroller.clustergarage.io/v1alpha1", kind: "ClusterJanusGuard", metadata: { name } },
    spec: {
      namespaceSelector: { matchLabels: namespaceLabels },
      selector: { matchLabels },
      subjects: [subject],
    },
  };
}
