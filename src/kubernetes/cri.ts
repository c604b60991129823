/**
 * Which containers run on this node, of which pods: the container runtime's own word (CRI), which comes before the pod's
 * status says so. Sandboxes are not among them.
 */
import { existsSync } from "node:fs";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials } from "@grpc/grpc-js";
import {
  ContainerState,
  ListContainersRequestSchema,
  type ListContainersResponse,
  ListContainersResponseSchema,
  RuntimeService,
} from "../gen/runtime/v1/cri_pb.js";

/** Where the runtimes listen, by default. */
export const CRI_SOCKETS = ["/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock"] as const;

/** A runtime that takes longer is asked again. Milliseconds. */
const DEADLINE_MS = 2000;

/** The kubelet's labels. */
const POD_UID = "io.kubernetes.pod.uid";
const CONTAINER_NAME = "io.kubernetes.container.name";

/** A container of a pod that runs, or is about to. */
export interface PodContainer {
  readonly podUid: string;
  readonly id: string;
  /** In its pod. */
  readonly name: string;
}

/** The first of the runtimes' sockets that is there. */
export function findCriSocket(): string | undefined {
  return CRI_SOCKETS.find((socket) => existsSync(socket));
}

export class ContainerRuntime {
  readonly #client: Client;

  constructor(readonly socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), {
      "grpc.max_receive_message_length": -1,
      // The runtime's sockets have no host name, and some refuse the socket's path for one.
      "grpc.default_authority": "localhost",
    });
  }

  /** Those that run or are about to. Rejects, naming the socket. */
  async list(): Promise<PodContainer[]> {
    const { containers } = await this.#listContainers();
    return containers.flatMap(({ id, metadata, state, labels }) => {
      const podUid = labels[POD_UID];
      if (
        podUid === undefined ||
        (state !== ContainerState.CONTAINER_CREATED && state !== ContainerState.CONTAINER_RUNNING)
      )
        return [];
      return { podUid, id, name: labels[CONTAINER_NAME] ?? metadata?.name ?? "" };
    });
  }

  close(): void {
    this.#client.close();
  }

  #listContainers(): Promise<ListContainersResponse> {
    const { name, parent } = RuntimeService.method.listContainers;
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/${parent.typeName}/${name}`,
        (request) => Buffer.from(toBinary(ListContainersRequestSchema, request)),
        (bytes) => fromBinary(ListContainersResponseSchema, bytes),
        create(ListContainersRequestSchema),
        { deadline: Date.now() + DEADLINE_MS },
        (error, response) => {
          if (error !== null || response === undefined)
            reject(new Error(`cannot list containers at ${this.socket}: ${error?.details ?? "no answer"}`));
          else resolve(response);
        },
      );
    });
  }
}
