/** The three resources, as CustomResourceDefinitions. */
import { clusterGuardSpec, guardSpec } from "./guard.ts";
import { object, type Schema } from "./schema.ts";
import { guardStatus, nodeStatus } from "./status.ts";

/** The original's. */
const GROUP = "januscontroller.clustergarage.io";
const VERSION = "v1alpha1";

interface Column {
  readonly name: string;
  readonly type: "integer" | "string" | "date";
  readonly jsonPath: string;
  readonly description: string;
  /** 1: only with `-o wide`. */
  readonly priority?: 1;
}

interface Resource {
  readonly kind: string;
  readonly plural: string;
  readonly shortName: string;
  readonly scope: "Namespaced" | "Cluster";
  readonly description: string;
  readonly spec?: Schema;
  readonly status: Schema;
  readonly columns: readonly Column[];
}

const condition = (type: string, field: string): string => `.status.conditions[?(@.type=="${type}")].${field}`;

const AGE: Column = {
  name: "Age",
  type: "date",
  jsonPath: ".metadata.creationTimestamp",
  description: "Since when the resource exists.",
};

const GUARD_COLUMNS: readonly Column[] = [
  { name: "Mode", type: "string", jsonPath: ".spec.mode", description: "enforce, or audit." },
  {
    name: "Selected",
    type: "integer",
    jsonPath: ".status.observablePods",
    description: "Running pods that the guard selects.",
  },
  { name: "Guarded", type: "integer", jsonPath: ".status.guardedPods", description: "Pods of those that are guarded." },
  {
    name: "Ready",
    type: "string",
    jsonPath: condition("Ready", "status"),
    description: "Whether all of them are guarded as the spec says.",
  },
  AGE,
  {
    name: "Reason",
    type: "string",
    jsonPath: condition("Ready", "message"),
    description: "Why it isn't ready.",
    priority: 1,
  },
];

const RESOURCES: readonly Resource[] = [
  {
    kind: "JanusGuard",
    plural: "janusguards",
    shortName: "jg",
    scope: "Namespaced",
    description: "Guards paths inside the containers of the selected pods of its namespace.",
    spec: guardSpec,
    status: guardStatus,
    columns: GUARD_COLUMNS,
  },
  {
    kind: "ClusterJanusGuard",
    plural: "clusterjanusguards",
    shortName: "cjg",
    scope: "Cluster",
    description: "Guards paths inside the containers of the selected pods, in every namespace that is selected.",
    spec: clusterGuardSpec,
    status: guardStatus,
    columns: GUARD_COLUMNS,
  },
  {
    kind: "JanusNode",
    plural: "janusnodes",
    shortName: "jn",
    scope: "Cluster",
    description: "What the daemon of the node of the same name does. Made and written by that daemon: nobody edits it.",
    status: nodeStatus,
    columns: [
      {
        name: "Selected",
        type: "integer",
        jsonPath: ".status.containers.selected",
        description: "Containers that a guard selects.",
      },
      {
        name: "Guarded",
        type: "integer",
        jsonPath: ".status.containers.guarded",
        description: "Those of them that are guarded.",
      },
      { name: "Ready", type: "string", jsonPath: condition("Ready", "status"), description: "What /readyz answers." },
      { name: "Tier", type: "string", jsonPath: ".status.holdTier", description: "How opens wait for new mounts." },
      { name: "Version", type: "string", jsonPath: ".status.version", description: "The daemon's." },
      { name: "Heard", type: "date", jsonPath: ".status.heartbeat", description: "Since the daemon's last word." },
      { name: "Changed", type: "date", jsonPath: ".status.lastChange", description: "Since the last change." },
      AGE,
    ],
  },
];

function definition(resource: Resource): object {
  const { kind, plural, shortName, scope, description, spec, status, columns } = resource;
  const standard: Schema = object(description, {
    apiVersion: { type: "string" },
    kind: { type: "string" },
    metadata: { type: "object" },
  });
  const schema: Schema = {
    ...standard,
    ...(spec === undefined ? {} : { required: ["spec"] }),
    properties: { ...standard.properties, ...(spec === undefined ? {} : { spec }), status },
  };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: {
      name: `${plural}.${GROUP}`,
      // `helm uninstall` leaves the resources, and so all guards: removing this one removes those.
      annotations: { "helm.sh/resource-policy": "keep" },
    },
    spec: {
      group: GROUP,
      scope,
      names: {
        ...{ kind, listKind: `${kind}List`, plural, singular: kind.toLowerCase(), shortNames: [shortName] },
        ...(scope === "Namespaced" ? { categories: ["all"] } : {}),
      },
      versions: [
        {
          ...{ name: VERSION, served: true, storage: true, subresources: { status: {} } },
          additionalPrinterColumns: columns,
          schema: { openAPIV3Schema: schema },
        },
      ],
    },
  };
}

/** By the plural. */
export const definitions: ReadonlyMap<string, object> = new Map(
  RESOURCES.map((resource) => [resource.plural, definition(resource)]),
);
