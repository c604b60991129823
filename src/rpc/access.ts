/** Who may call what. */
import { service as healthDefinition } from "grpc-health-check";
import type { AllowedClient, Role } from "../config.js";
import { EventService } from "../gen/janus/v1/events_pb.js";
import { InspectionService } from "../gen/janus/v1/inspection_pb.js";
import { Janusd } from "../gen/janus_pb.js";
import type { Requester } from "../guard/audit.js";

/** What changes nothing. All that is not here takes an `admin`. */
const READING: readonly string[] = [
  `/${Janusd.typeName}/${Janusd.method.getGuardState.name}`,
  ...InspectionService.methods.map(({ name }) => `/${InspectionService.typeName}/${name}`),
  ...EventService.methods.map(({ name }) => `/${EventService.typeName}/${name}`),
  ...Object.values(healthDefinition).map(({ path }) => path),
  "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
  "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/** Of names in a message; a certificate may have many. Characters. */
const SHOWN_NAMES = 300;

/** Undefined: it may call the method. Otherwise why not, in words for the caller. */
export function denial({ names }: Requester, method: string, allowed: readonly AllowedClient[]): string | undefined {
  // A Unix peer passed the socket's mode; plaintext was asked for; without a list the CA's word is enough.
  if (names === undefined || allowed.length === 0) return undefined;
  const roles = new Set<Role>(allowed.filter(({ name }) => names.includes(name)).map(({ role }) => role));
  if (roles.has("admin") || (roles.has("read") && READING.includes(method))) return undefined;
  const seen = names.map((name) => JSON.stringify(name)).join(", ");
  const who = seen.length > SHOWN_NAMES ? `${seen.slice(0, SHOWN_NAMES)}...` : seen || "no name";
  return roles.has("read")
    ? `the certificate (${who}) may only read: ${method} takes --allow-client NAME=admin`
    : `no --allow-client names this certificate (${who})`;
}
