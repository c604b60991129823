/** Why the API server did not do as it was asked, in one line: what was asked, and whose fault it seems. */
import { ApiException } from "@kubernetes/client-node";

/** `error`: whatever the client threw. */
export function explainFailure(error: unknown, verb: string, resource: string): string {
  return `cannot ${verb} ${resource}: ${reasonOf(error)}`;
}

/** The HTTP status that an error of the client's comes from. */
export function statusOf(error: unknown): number | undefined {
  if (error instanceof ApiException) return error.code;
  if (!(error instanceof Error)) return undefined;
  const status: unknown = "statusCode" in error ? error.statusCode : undefined;
  return typeof status === "number" ? status : undefined;
}

function reasonOf(error: unknown): string {
  const status = statusOf(error);
  const said = messageOfBody(error);
  switch (status) {
    case 401:
      return "the API server takes the credentials for none of its own (401): have they expired?";
    case 403:
      return `forbidden (403): ${said ?? "a rule of RBAC is missing"}`;
    case 404:
      return `not found (404): ${said ?? "is the CustomResourceDefinition there?"}`;
    case undefined:
      return networkReason(error);
    default:
      return said === undefined ? `the API server says ${status}` : `the API server says ${status}: ${said}`;
  }
}

/** fetch() says `fetch failed`, and means its cause. */
function networkReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.cause instanceof AggregateError && error.cause.errors.length > 0)
    return networkReason(error.cause.errors[0]);
  return (error.cause instanceof Error ? networkReason(error.cause) : error.message).replaceAll("\n", " ");
}

/** What a Status in the answer says. */
function messageOfBody(error: unknown): string | undefined {
  if (!(error instanceof ApiException)) return undefined;
  const body: unknown = error.body;
  const status: unknown = typeof body === "string" ? parsed(body) : body;
  if (typeof status !== "object" || status === null || !("message" in status)) return undefined;
  return typeof status.message === "string" && status.message !== "" ? status.message.replaceAll("\n", " ") : undefined;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
