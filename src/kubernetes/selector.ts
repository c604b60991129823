/** Label selectors, with all that Kubernetes lets them say. */
import { Fields, type Path, type Refuse } from "../guard/document.js";

export type Labels = Readonly<Record<string, string>>;
export type Selector = (labels: Labels) => boolean;

const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"] as const;
type Operator = (typeof OPERATORS)[number];

const NAME_LIMIT = 63;
const PREFIX_LIMIT = 253;

/** An empty selector selects everything. What makes no sense is refused, and selects nothing. */
export function readSelector(content: unknown, path: Path, refuse: Refuse): Selector {
  const fields = new Fields(content, path, refuse);
  const requirements = Object.entries(fields.textMap("matchLabels")).map(([key, value]): Selector => {
    checkLabel(key, [value], [...path, "matchLabels", key], refuse);
    return (labels) => labelOf(labels, key) === value;
  });
  for (const [index, item] of fields.list("matchExpressions").entries()) {
    requirements.push(readExpression(new Fields(item, [...path, "matchExpressions", index], refuse), refuse));
  }
  fields.done();
  return (labels) => requirements.every((holds) => holds(labels));
}

function readExpression(expression: Fields, refuse: Refuse): Selector {
  const key = expression.text("key");
  const operator = OPERATORS.find((known) => known === expression.text("operator"));
  const values = expression.texts("values");
  expression.done();
  checkLabel(key, values, [...expression.path, "key"], refuse);
  if (operator === undefined) {
    refuse([...expression.path, "operator"], `must be one of ${OPERATORS.join(", ")}`);
    return () => false;
  }
  const takesValues = operator === "In" || operator === "NotIn";
  if (takesValues !== values.length > 0) {
    refuse([...expression.path, "values"], `must ${takesValues ? "not " : ""}be empty with ${operator}`);
  }
  return requirementOf(operator, key, new Set(values));
}

function requirementOf(operator: Operator, key: string, values: ReadonlySet<string>): Selector {
  const isIn: Selector = (labels) => {
    const value = labelOf(labels, key);
    return value !== undefined && values.has(value);
  };
  switch (operator) {
    case "In":
      return isIn;
    case "NotIn":
      return (labels) => !isIn(labels);
    case "Exists":
      return (labels) => labelOf(labels, key) !== undefined;
    case "DoesNotExist":
      return (labels) => labelOf(labels, key) === undefined;
  }
}

function labelOf(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

/** The API server does not check the labels that a resource of ours names: one that no pod can have is a mistake. */
function checkLabel(key: string, values: readonly string[], path: Path, refuse: Refuse): void {
  const slash = key.indexOf("/");
  const prefix = slash === -1 ? undefined : key.slice(0, slash);
  const isDomain = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;
  if (
    !isName(key.slice(slash + 1)) ||
    (prefix !== undefined && !(prefix.length <= PREFIX_LIMIT && isDomain.test(prefix)))
  ) {
    refuse(path, `${JSON.stringify(key)} cannot be a label's key`);
  }
  for (const value of values) {
    if (value !== "" && !isName(value)) refuse(path, `${JSON.stringify(value)} cannot be a label's value`);
  }
}

function isName(text: string): boolean {
  return text.length <= NAME_LIMIT && /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/.test(text);
}
