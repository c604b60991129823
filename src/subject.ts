/** `enforce`: what a guard denies is denied. `audit`: it is recorded, and allowed. */
export type Mode = "enforce" | "audit";

/** A guard, as metrics and logs name it. */
export interface GuardName {
  /** "" = none. */
  readonly namespace: string;
  readonly guard: string;
}

/**
 * What a decided event is about: everything a sink needs that the kernel
 * doesn't know. Neutral ground between guard/ (which makes them) and sink/
 * (which reads them).
 */
export interface SubjectContext extends GuardName {
  /** The `subject_id` of its events. Stable for the life of the guard's configuration. */
  readonly id: number;
  readonly subjectIndex: number;
  readonly tags: Readonly<Record<string, string>>;
  readonly node: string;
  readonly pod: string;
  readonly podUid: string;
  readonly containerId: string;
  readonly containerName: string;
  /** "" = the default format. */
  readonly logFormat: string;
  readonly mode: Mode;
}

/** Which guards deny an open, or only audit and would, besides the one that it is attributed to. */
export interface Deniers {
  /** A subject of each. */
  readonly others: readonly SubjectContext[];
  /** These are not all. */
  readonly cut: boolean;
}

export const NO_DENIERS: Deniers = { others: [], cut: false };

/** A guard's name, as logs write it. */
export function guardName({ namespace, guard }: GuardName): string {
  return namespace === "" ? guard : `${namespace}/${guard}`;
}

/** The names of all guards of a record, and of those that only audit. Undefined: there is one, its subject's. */
export function guardNames(
  subject: SubjectContext,
  { others, cut }: Deniers,
): { readonly all: readonly string[]; readonly auditing: readonly string[] } | undefined {
  if (others.length === 0 && !cut) return undefined;
  const guards = [subject, ...others];
  return { all: guards.map(guardName), auditing: guards.filter(({ mode }) => mode === "audit").map(guardName) };
}

/** Undefined for a subject that was never known, or was removed too long ago. */
export type SubjectLookup = (id: number) => SubjectContext | undefined;
