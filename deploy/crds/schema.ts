/** The parts of an OpenAPI schema that the resources use. */
export interface Schema {
  readonly type?: "object" | "array" | "string" | "integer" | "boolean";
  readonly format?: "date-time" | "int32" | "int64";
  readonly description?: string;
  readonly default?: string | number;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly "x-kubernetes-list-type"?: "atomic" | "set" | "map";
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
  readonly "x-kubernetes-map-type"?: "atomic";
  readonly "x-kubernetes-validations"?: readonly Rule[];
}

/** In CEL. `self` is the value that the rule stands at. */
export interface Rule {
  readonly rule: string;
  readonly message: string;
  /** The field that the fault is told of, if it isn't the value itself. */
  readonly fieldPath?: string;
}

/** A multi-line description as one paragraph for each part. */
export function text(...paragraphs: readonly string[]): string {
  return paragraphs.map((paragraph) => paragraph.replace(/\s+/g, " ").trim()).join("\n\n");
}

export const string = (description: string, more: Schema = {}): Schema => ({ description, type: "string", ...more });
export const flag = (description: string): Schema => ({ description, type: "boolean" });
export const time = (description: string): Schema => ({ description, type: "string", format: "date-time" });

export const count = (description: string, format: "int32" | "int64" = "int32"): Schema => ({
  description,
  type: "integer",
  format,
  minimum: 0,
});

export const object = (
  description: string,
  properties: Readonly<Record<string, Schema>>,
  more: Schema = {},
): Schema => ({
  description,
  type: "object",
  ...more,
  properties,
});

/** Replaced as a whole by whoever applies it: two owners never merge their items in silence. */
export const list = (description: string, items: Schema, more: Schema = {}): Schema => ({
  description,
  type: "array",
  "x-kubernetes-list-type": "atomic",
  ...more,
  items,
});
