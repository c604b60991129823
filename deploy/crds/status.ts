/** What the daemons write: a guard's status, and JanusNode. */
import { count, flag, list, object, type Schema, string, text, time } from "./schema.ts";

const conditions = (description: string): Schema =>
  list(
    description,
    object(
      "As in every Kubernetes resource.",
      {
        type: string("Its name.", { maxLength: 316 }),
        status: string("Whether it holds.", { enum: ["True", "False", "Unknown"] }),
        observedGeneration: count("The generation of the resource that it was judged by.", "int64"),
        lastTransitionTime: time("When status changed last."),
        reason: string("One word for programs.", { maxLength: 1024 }),
        message: string("A sentence for people.", { maxLength: 32768 }),
      },
      { required: ["type", "status", "lastTransitionTime", "reason", "message"] },
    ),
    { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"] },
  );

export const guardStatus: Schema = object(
  "Counts and conditions. What each node says is in the JanusNode of its name. Written by one of the daemons.",
  {
    observedGeneration: count("The generation that all of this is about.", "int64"),
    enforcedGeneration: count(
      "The generation that is enforced. An older one than observedGeneration while that can't be used.",
      "int64",
    ),
    observablePods: count("Running pods that the guard selects."),
    guardedPods: count("Those of them that are guarded, with all of their containers and paths."),
    conditions: conditions(
      text(
        "Ready: every selected pod is guarded as the spec says.",
        "Degraded: something isn't as the spec says; reason and message tell what, and name the field or the node.",
      ),
    ),
  },
);

export const nodeStatus: Schema = object("What the node's daemon does. Only that daemon writes it.", {
  version: string("The daemon's version, with its commit.", { maxLength: 256 }),
  startedAt: time("When the daemon started."),
  lastChange: time("When anything but this field and counters changed last."),
  heartbeat: time("When the daemon last wrote this: every two minutes at least, while it runs."),
  holdTier: string(
    "How opens wait for new mounts on this kernel: fentry is complete. What the others leave: janusctl doctor.",
    { maxLength: 64 },
  ),
  features: {
    description: "What this kernel lets the daemon do. Tried when it started.",
    type: "object",
    additionalProperties: { type: "boolean" },
  },
  exposure: {
    description: "Opens that were not judged, or moments in which they might not have been, by cause, since the start.",
    type: "object",
    additionalProperties: { type: "integer", format: "int64", minimum: 0 },
  },
  containers: object("Of the pods on this node.", {
    selected: count("Containers that a guard selects."),
    guarded: count("Those of them that all of their guards hold on."),
  }),
  guards: list(
    "Guards that select pods on this node, or could not be used.",
    object(
      "A JanusGuard, or a ClusterJanusGuard (its namespace is empty).",
      {
        namespace: string("Empty: a ClusterJanusGuard.", { default: "", maxLength: 63 }),
        name: string("The resource's name.", { maxLength: 253 }),
        uid: string("The resource's uid: one that was deleted and made again is another guard.", { maxLength: 128 }),
        observedGeneration: count("The newest generation that the daemon has seen.", "int64"),
        enforcedGeneration: count("The generation that is enforced here. 0: none yet.", "int64"),
        observablePods: count("Running pods of this node that the guard selects."),
        guardedPods: count("Those that are guarded, with all of their containers and paths."),
        containers: count("Containers that it holds on."),
        ready: flag("observedGeneration is enforced on all that it selects here."),
        reason: string("One word for what is wrong. Empty: nothing.", { maxLength: 1024 }),
        message: string("What is wrong first, with the field of the spec or the container.", { maxLength: 4096 }),
      },
      { required: ["namespace", "name"] },
    ),
    { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["namespace", "name"] },
  ),
  conditions: conditions("Ready: the daemon proves that it guards (what /readyz answers)."),
});
