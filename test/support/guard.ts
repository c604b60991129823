/** Short forms for what most kernel tests say: a guard on a container. */
import { constants } from "node:os";
import type { Container } from "./container.js";
import type { GuardInit } from "./daemon.js";

export const { EPERM, ENOENT } = constants.errno;

export type SubjectInit = NonNullable<GuardInit["subject"]>[number];

/** A guard named "guard" of the pod "pod" on one container. Subjects without `event` are about open. */
export function guardOn(
  container: Container,
  subject: SubjectInit | readonly SubjectInit[],
  rest: GuardInit = {},
): GuardInit {
  const subjects = Array.isArray(subject) ? subject : [subject];
  return {
    name: "guard",
    podName: "pod",
    cid: [`containerd://${container.id}`],
    subject: subjects.map((one) => ({ event: ["open"], ...one })),
    ...rest,
  };
}
