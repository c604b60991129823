/** Pods and namespaces, as far as guards need to know them. */
import { containerId } from "../guard/guard.js";
import type { Container, Pod } from "./desired.js";
import type { Labels } from "./selector.js";

/** A pod as the API server has it, as far as it is looked at. */
export interface ApiPod {
  readonly metadata?: {
    readonly uid?: string;
    readonly namespace?: string;
    readonly name?: string;
    readonly labels?: Labels;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly status?: {
    readonly phase?: string;
    readonly initContainerStatuses?: readonly ContainerStatus[];
    readonly containerStatuses?: readonly ContainerStatus[];
    readonly ephemeralContainerStatuses?: readonly ContainerStatus[];
  };
}

interface ContainerStatus {
  readonly name?: string;
  readonly containerID?: string;
  readonly state?: { readonly terminated?: unknown };
}

export interface SeenPod extends Pod {
  /** What the node's runtime knows it by: of a static pod, not the uid that the API server gave it. */
  readonly runtimeUid: string;
  /** Containers of it are still to be started. */
  readonly starting: boolean;
  /** All of them have ended, and none is started again. */
  readonly over: boolean;
}

/** The kubelet's, on what stands for a static pod in the API. */
const MIRROR = "kubernetes.io/config.mirror";

export function readPod({ metadata = {}, status = {} }: ApiPod): SeenPod {
  const { uid = "", namespace = "", name = "", labels = {}, annotations = {} } = metadata;
  const statuses = [
    ...(status.initContainerStatuses ?? []),
    ...(status.containerStatuses ?? []),
    ...(status.ephemeralContainerStatuses ?? []),
  ];
  return {
    ...{ uid, namespace, name, labels },
    runtimeUid: annotations[MIRROR] ?? uid,
    starting: status.phase === undefined || status.phase === "Pending",
    over: status.phase === "Succeeded" || status.phase === "Failed",
    containers: statuses.flatMap(containerOf),
  };
}

function containerOf({ name = "", containerID = "", state }: ContainerStatus): Container[] {
  const id = containerId(containerID);
  return id === undefined || (state?.terminated ?? undefined) !== undefined ? [] : [{ id, name }];
}

/** Both say something, and either may be late: a container that is gone is not found, and costs nothing. */
export function withContainers<P extends Pod>(pod: P, others: readonly Container[]): P {
  const containers = new Map([...others, ...pod.containers].map((container) => [container.id, container]));
  return { ...pod, containers: [...containers.values()].sort((a, b) => (a.id < b.id ? -1 : 1)) };
}
