/** What was learnt as a guard file with comments. Containers chose the names in it: each stays on its line. */

import { printableString, quoteJson } from "../event/text.js";
import type { Lost } from "../gen/janus/v1/events_pb.js";
import { API_VERSION, KIND } from "../guard/document.js";
import { PATH_ITSELF } from "../guard/guard.js";
import { formatLost } from "./event-text.js";
import type { Folded, Forced, LearntPath, LearntTree, Uses } from "./learnt.js";

/** What is learnt, each by itself. */
export const LEARNT_EVENTS = ["open", "exec"] as const;
export type LearntEvent = (typeof LEARNT_EVENTS)[number];

export interface Lesson {
  /** Of the guard. */
  readonly name: string;
  /** The full id. */
  readonly container: string;
  readonly paths: readonly string[];
  /** Where each of `paths` leads in the container, in their order. */
  readonly roots: readonly string[];
  readonly began: Date;
  readonly ended: Date;
  /** Why it ended. */
  readonly because: string;
  readonly events: number;
  readonly lost: readonly Lost[];
  readonly learnt: Readonly<Record<LearntEvent, Folded>>;
}

/** For standard error, too: what the guard does not allow although it happened, and what may be missing. */
export function cautionsOf({ lost, learnt, events }: Lesson): string[] {
  const cautions: string[] = [];
  if (events === 0) cautions.push("Nothing was opened or executed: this guard allows nothing.");
  for (const one of lost) cautions.push(`${formatLost(one, "text")}. This guard may deny what was missed.`);
  for (const event of LEARNT_EVENTS) {
    const { generated, elsewhere, unlisted } = learnt[event];
    for (const { path, uses } of elsewhere)
      cautions.push(
        `Denied, though it happened: ${event} by another name, ${printableString(path)}, ${usesText(uses)}.`,
      );
    if (unlisted.count > 0)
      cautions.push(
        `Denied, though it happened: ${event} of names that are too many, too long, or not UTF-8, ${usesText(unlisted)}.`,
      );
    for (const path of generated)
      cautions.push(
        `Names in ${printableString(path)} look generated (${event}): this guard denies the next ones. Allow a ` +
          "directory of theirs, or all.",
      );
  }
  return cautions;
}

/** YAML, as `janusctl apply -f` takes it. */
export function formatLesson(lesson: Lesson): string {
  const { name, container, paths, began, ended, because, events, learnt } = lesson;
  const header = [
    `What was opened and executed below ${paths.map(printableString).join(", ")}`,
    `in container ${container}, by janusctl learn.`,
    `From ${began.toISOString()} to ${ended.toISOString()}, ${because}: ${events} event${events === 1 ? "" : "s"}.`,
    ...cautionsOf(lesson),
    "It denies nothing in mode audit. See what it would deny, then have it enforce:",
    `janusctl events -f --audit --guard ${name}`,
  ];
  const subjects = [
    ...denials(lesson),
    ...LEARNT_EVENTS.flatMap((event) => {
      const { files, exact, trees } = learnt[event];
      return [...allowedExactly(event, [...files, ...exact]), ...allowedTrees(event, trees)];
    }),
  ];
  return `${[
    ...header.map((line) => `# ${line}`),
    `apiVersion: ${API_VERSION}`,
    `kind: ${KIND}`,
    "metadata:",
    `  name: ${quoteJson(name)}`,
    "spec:",
    "  mode: audit",
    `  containers: [${quoteJson(container)}]`,
    "  subjects:",
    ...subjects,
  ].join("\n")}\n`;
}

/**
 * What was opened can't be denied and allowed: on a tie deny wins. So a path that is a file is left out, and of one that
 * is a directory, only what is below it is denied.
 */
function denials({ paths, roots, learnt }: Lesson): string[] {
  const whole = new Map<string, { readonly events: readonly LearntEvent[]; readonly lines: string[] }>();
  const below: Record<LearntEvent, string[]> = { open: [], exec: [] };
  for (const [index, path] of paths.entries()) {
    const used = (list: readonly LearntPath[]) => list.find((one) => one.path === roots[index]);
    const events = LEARNT_EVENTS.filter((event) => !used(learnt[event].files) && !used(learnt[event].roots));
    const alike = whole.get(events.join()) ?? { events, lines: [] };
    whole.set(events.join(), alike);
    alike.lines.push(yamlPath(path));
    for (const event of LEARNT_EVENTS) {
      const itself = used(learnt[event].roots);
      if (itself !== undefined) below[event].push(`${yamlPath(path)} # itself ${usesText(itself.uses)}`);
    }
  }
  const recursive = "recursive: true";
  return [
    ...[...whole.values()]
      .filter(({ events }) => events.length > 0)
      .flatMap(({ events, lines }) => subjectLines("deny", lines, events, [recursive])),
    ...LEARNT_EVENTS.filter((event) => below[event].length > 0).flatMap((event) => [
      "    # What is below these, and not they themselves.",
      ...subjectLines("deny", below[event], [event], [recursive, `exclude: [${quoteJson(PATH_ITSELF)}]`]),
    ]),
  ];
}

function allowedExactly(event: LearntEvent, paths: readonly LearntPath[]): string[] {
  if (paths.length === 0) return [];
  const lines = paths.map(({ path, uses }) => `${yamlPath(path)} # ${usesText(uses)}`);
  return ["    # These, and nothing in them.", ...subjectLines("allow", lines, [event], ['exclude: ["*"]'])];
}

function allowedTrees(event: LearntEvent, trees: readonly LearntTree[]): string[] {
  if (trees.length === 0) return [];
  const lines = trees.map(({ path, uses, paths, forced }) => {
    const counted = forced === undefined ? `${paths} paths` : `at least ${paths} (${FORCED[forced]})`;
    return `${yamlPath(path)} # ${counted}, ${usesText(uses)}`;
  });
  return ["    # These, with all below them.", ...subjectLines("allow", lines, [event], ["recursive: true"])];
}

const FORCED: Readonly<Record<Forced, string>> = {
  names: "too many names to keep",
  unsayable: "names that are not UTF-8, or paths that are too long",
};

function subjectLines(
  action: "allow" | "deny",
  paths: readonly string[],
  events: readonly string[],
  more: readonly string[],
): string[] {
  return [
    `    - ${action}:`,
    ...paths.map((line) => `        - ${line}`),
    ...[`events: [${events.join(", ")}]`, ...more, "scope: container"].map((line) => `      ${line}`),
  ];
}

/** As it is where YAML can't take it for anything else, else quoted: a JSON string is one of YAML. */
function yamlPath(path: string): string {
  return /^\/[A-Za-z0-9_./-]*$/.test(path) ? path : quoteJson(path);
}

/** "12 times by /bin/cat (10), /bin/sh (2)"; the busiest first. */
function usesText({ count, programs, others }: Uses): string {
  const sorted = [...programs].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  const several = sorted.length + Math.sign(others) > 1;
  const names = sorted.map(
    ([program, times]) => `${printableString(program) || "(unknown)"}${several ? ` (${times})` : ""}`,
  );
  const all = [...names, ...(others > 0 ? [`others (${others})`] : [])];
  return `${count === 1 ? "once" : `${count} times`} by ${all.join(", ")}`;
}
