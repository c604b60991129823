/** `janusctl explain`: how an open or a change would be judged, as text for people and JSON for scripts. */
import { toJson } from "@bufbuild/protobuf";
import { singleLine } from "../event/text.js";
import {
  Actor,
  type ExplainedCover,
  type ExplainedRule,
  type ExplainedVerdict,
  type ExplainResponse,
  ExplainResponseSchema,
  type Guard,
  RuleBearing,
  Verdict,
} from "../gen/janus/v1/inspection_pb.js";
import { GuardMode } from "../gen/janus_pb.js";
import { labelOf } from "../guard/registry.js";
import { sayInvalid } from "./faults.js";
import { printJson, shortId } from "./output.js";
import type { Session } from "./session.js";
import { type Columns, formatTable } from "./table.js";

export const EXPLAIN_FORMATS = ["text", "json"] as const;

interface ExplainOptions {
  readonly event: string;
  readonly pid?: number;
  readonly output: (typeof EXPLAIN_FORMATS)[number];
}

export async function explain(
  { client, io }: Session,
  container: string,
  path: string,
  { event, pid = 0, output }: ExplainOptions,
): Promise<number> {
  try {
    const said = await client.explain({ container, path, event, pid });
    if (output === "json") printJson(io.stdout, toJson(ExplainResponseSchema, said, { alwaysEmitImplicit: true }));
    else io.stdout(explained(said, path));
    return 0;
  } catch (error) {
    sayInvalid(io, error);
    return 2;
  }
}

function explained(said: ExplainResponse, asked: string): string {
  const { container, event, path, fileSystem, links, judgedAs, rules, verdicts, cover } = said;
  const leads = path === asked ? "" : `, where ${asked} leads`;
  const names = links > 1 && !said.directory ? `, one of ${links} names` : "";
  const what = said.symlink ? "a symlink" : said.directory ? "a directory" : "a file";
  const lines = [
    `${event} of ${path} in ${shortId(container)}${leads}`,
    said.exists ? `${what} on ${fileSystem}${names}` : `nothing is there yet; it would be on ${fileSystem}`,
    ...judgedAs.slice(1).map((other) => `judged as ${other}, too: it was there`),
    ...(cover === undefined ? [] : [coverText(cover)]),
  ];
  const tables = [formatTable(VERDICT_COLUMNS, verdicts)];
  if (rules.length > 0) tables.push(formatTable(RULE_COLUMNS, rules));
  return `${lines.map((line) => `${singleLine(line)}\n`).join("")}\n${tables.join("\n")}`;
}

function coverText({ identity, superblock, mount, told, ignored, never }: ExplainedCover): string {
  const tells = told ? ["it tells after the fact"] : [];
  if (never !== "") return [`the kernel never asks: ${never}`, ...tells].join("; ");
  const by = [
    ...(identity ? ["what it is (pinned)"] : []),
    ...(superblock ? ["a mark on its file system"] : []),
    ...(mount ? ["a mark on its mount"] : []),
  ];
  const asks = by.length > 0 ? `the kernel asks by ${by.join(" and ")}` : "the kernel does not ask";
  return [
    asks,
    ...tells,
    ...(ignored && by.length > 0 ? ["it may have been told to ask no more, since nothing is guarded there"] : []),
  ].join("; ");
}

const VERDICT_COLUMNS: Columns<ExplainedVerdict> = {
  WHO: ({ actor, pid }) =>
    ({
      [Actor.UNSPECIFIED]: "",
      [Actor.CONTAINER]: "a process of the container",
      [Actor.OWNER]: "the container's owner",
      [Actor.NODE]: "the node",
      [Actor.PROCESS]: `process ${pid}`,
    })[actor],
  VERDICT: ({ verdict }) =>
    ({
      [Verdict.UNSPECIFIED]: "",
      [Verdict.UNJUDGED]: "allowed, unjudged",
      [Verdict.ALLOW]: "ALLOW",
      [Verdict.DENY]: "DENY",
      [Verdict.AUDIT]: "AUDIT",
    })[verdict],
  BY: ({ verdict, guard, subject, action, path }) =>
    verdict === Verdict.UNJUDGED ? "" : `${named(guard)} subject[${subject}] ${action} ${path}`,
  BECAUSE: (verdict) => becauseOf(verdict),
};

function becauseOf({ verdict, answered, owner, anything, others }: ExplainedVerdict): string {
  if (verdict === Verdict.UNJUDGED) return "no guard has a say";
  return [
    ...(owner ? ["autoAllowOwner exempts it"] : []),
    ...(anything ? ["its place is not known for certain"] : []),
    ...(answered ? [] : ["only recorded: nobody waits"]),
    ...(others.length > 0 ? [`so says ${others.map(named).join(", ")}`] : []),
  ].join("; ");
}

const RULE_COLUMNS: Columns<ExplainedRule> = {
  RULE: ({ action, path }) => `${action} ${path}`,
  GUARD: ({ guard, subject }) => `${named(guard)} subject[${subject}]`,
  MODE: ({ mode }) => (mode === GuardMode.AUDIT ? "audit" : "enforce"),
  HERE: ({ bearing }) =>
    ({
      [RuleBearing.UNSPECIFIED]: "",
      [RuleBearing.APPLIES]: "applies",
      [RuleBearing.SHADOWED]: "its guard says something more specific",
      [RuleBearing.OTHER_EVENT]: "is about other events",
      [RuleBearing.OTHER_ACTOR]: "is about its own container's processes",
      [RuleBearing.ONLY_DIRECTORIES]: "is about directories",
      [RuleBearing.TOO_DEEP]: "does not reach so deep",
      [RuleBearing.EXCLUDED]: "excludes it",
    })[bearing],
};

function named(guard: Guard | undefined): string {
  return guard === undefined ? "" : labelOf(guard);
}
