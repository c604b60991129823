/**
 * Which events somebody wants. Asked of each event before anything is encoded, so the cheap questions come first, and
 * what a subject decides is found out once for each subject.
 */
import type { Buffer } from "node:buffer";
import { type Deniers, guardName, type SubjectContext } from "../subject.js";
import type { FileEventView } from "./decode.js";
import type { Glob } from "./glob.js";

/** Of each field that has values, one is to fit. */
export interface FilterFields {
  /** NAME or NAMESPACE/NAME. */
  readonly guards: readonly string[];
  readonly namespaces: readonly string[];
  readonly pods: readonly string[];
  /** Full id, its first 12 characters, or the name in the pod. */
  readonly containers: readonly string[];
  /** Indexes into EVENT_KINDS. */
  readonly kinds: readonly number[];
  /** As in a record. */
  readonly responses: readonly number[];
  readonly paths: readonly Glob[];
  readonly uids: readonly number[];
  readonly executables: readonly Glob[];
  /** An event of which it is not known fits none; so with `argv0`. */
  readonly asked: readonly Glob[];
  readonly argv0: readonly Glob[];
}

export const NO_FIELDS: FilterFields = {
  guards: [],
  namespaces: [],
  pods: [],
  containers: [],
  kinds: [],
  responses: [],
  paths: [],
  uids: [],
  executables: [],
  asked: [],
  argv0: [],
};

const SHORT_ID = 12;

type Test = (view: FileEventView, subject: SubjectContext, deniers: Deniers) => boolean;

export class EventFilter {
  readonly #include: readonly Test[];
  readonly #exclude: readonly Test[];

  /** All fields of `include` must fit, none of `exclude` may. */
  constructor(include: FilterFields, exclude: FilterFields) {
    this.#include = testsOf(include, true);
    this.#exclude = testsOf(exclude, false);
  }

  matches(view: FileEventView, subject: SubjectContext, deniers: Deniers): boolean {
    for (const fits of this.#include) if (!fits(view, subject, deniers)) return false;
    for (const fits of this.#exclude) if (fits(view, subject, deniers)) return false;
    return true;
  }
}

/** One for each field that has values, the cheap ones first. `unknown`: whether a path fits of which only the end is known. */
function testsOf(fields: FilterFields, unknown: boolean): Test[] {
  const tests: Test[] = [];
  const { guards, namespaces, pods, containers, kinds, responses, paths, uids, executables, asked, argv0 } = fields;
  if (responses.length > 0) tests.push((view) => responses.includes(view.response));
  if (kinds.length > 0) tests.push((view) => kinds.includes(view.kind));
  if (uids.length > 0) tests.push((view) => uids.includes(view.uid));
  if (namespaces.length > 0) tests.push((_view, { namespace }) => namespaces.includes(namespace));
  if (pods.length > 0) tests.push((_view, { pod }) => pods.includes(pod));
  if (containers.length > 0) tests.push(ofSubject((subject) => isOneOf(containers, subject)));
  if (guards.length > 0) {
    const named = ofSubject((subject) => guards.includes(subject.guard) || guards.includes(guardName(subject)));
    // It is an event of each guard that denies it.
    tests.push((view, subject, deniers) => [subject, ...deniers.others].some((one) => named(view, one, deniers)));
  }
  if (paths.length > 0) {
    // A rename by either name.
    tests.push((view) =>
      view.pathIsWhole ? covers(paths, view.pathBytes) || (view.hasOther && covers(paths, view.otherBytes)) : unknown,
    );
  }
  if (executables.length > 0) tests.push((view) => covers(executables, view.exeBytes));
  if (asked.length > 0) tests.push((view) => view.hasAsked && covers(asked, view.askedBytes));
  if (argv0.length > 0) tests.push((view) => view.hasArgv0 && covers(argv0, view.argv0Bytes));
  return tests;
}

function covers(globs: readonly Glob[], bytes: Buffer): boolean {
  return globs.some((glob) => glob.covers(bytes));
}

function isOneOf(containers: readonly string[], { containerId, containerName }: SubjectContext): boolean {
  return [containerId, containerId.slice(0, SHORT_ID), containerName].some((name) => containers.includes(name));
}

/** A subject never changes, so it is asked once. */
function ofSubject(ask: (subject: SubjectContext) => boolean): Test {
  const answers = new WeakMap<SubjectContext, boolean>();
  return (_view, subject) => {
    let answer = answers.get(subject);
    if (answer === undefined) {
      answer = ask(subject);
      answers.set(subject, answer);
    }
    return answer;
  };
}
