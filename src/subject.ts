/**
 * What a decided event is about: everything a sink needs that the kernel
 * doesn't know. Neutral ground between guard/ (which makes them) and sink/
 * (which reads them).
 */
export interface SubjectContext {
  /** The `subject_id` of its events. Stable for the life of the guard's configuration. */
  readonly id: number;
  /** The guard's name. */
  readonly guard: string;
  readonly subjectIndex: number;
  readonly tags: Readonly<Record<string, string>>;
  readonly node: string;
  readonly pod: string;
  readonly namespace: string;
  readonly podUid: string;
  readonly containerId: string;
  readonly containerName: string;
  /** "" = the default format. */
  readonly logFormat: string;
}

/** Undefined for a subject that was never known, or was removed too long ago. */
export type SubjectLookup = (id: number) => SubjectContext | undefined;
