/** Pods of the suite: manifests, and what runs in them. */
import { appImage } from "./images.js";

export interface PodOptions {
  readonly namespace?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Of the container "main". Default: it sleeps. */
  readonly command?: readonly string[];
  /** More about that container. */
  readonly container?: object;
  /** More about the pod's spec. */
  readonly spec?: object;
}

/** A container of the suite's image. */
export function container(name: string, command?: readonly string[], more: object = {}): object {
  return { name, image: appImage, ...(command === undefined ? {} : { command }), ...more };
}

export function podManifest(name: string, options: PodOptions = {}): object {
  const { namespace = "default", labels = {}, command, container: more, spec } = options;
  return {
    ...{ apiVersion: "v1", kind: "Pod", metadata: { name, namespace, labels } },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [container("main", command, more)],
      ...spec,
    },
  };
}
