/** The commands about guards. Each resolves to the exit status. */
import { toJson } from "@bufbuild/protobuf";
import { singleLine } from "../event/text.js";
import type { GuardDetails, RehearseResponse } from "../gen/janus/v1/inspection_pb.js";
import { GuardState, RehearseResponseSchema } from "../gen/janus/v1/inspection_pb.js";
import type { JanusdConfig } from "../gen/janus_pb.js";
import { type JanusdHandle, JanusdHandleSchema } from "../gen/janus_pb.js";
import { formatResources, resourceOf } from "../guard/file-format.js";
import { identity, labelOf } from "../guard/registry.js";
import { warningsOf } from "../guard/warnings.js";
import { type JanusClient, RpcError } from "./client.js";
import { diffOf } from "./diff.js";
import { type LoadedGuard, loadGuards } from "./documents.js";
import { faultsOfDocument, saidAt, say } from "./faults.js";
import { configOf, type ListFormat, printGuards, warningsIn, watchGuards } from "./guard-list.js";
import { type MESSAGE_FORMATS, printJson, printMessages, shortId } from "./output.js";
import { rehearsed, SHOWN_EXAMPLES } from "./rehearsal.js";
import type { Io, Session } from "./session.js";
import type { Columns } from "./table.js";

/** What a change prints: a line each, or JSON. The first is the default. */
export const CHANGE_FORMATS = ["text", "json"] as const;

interface FileOptions {
  readonly file: readonly string[];
}

/** How many of the recorded events are judged by a guard that is not applied; 0: none. */
interface RehearsalOptions {
  readonly events: number;
}

interface ChangeOptions extends FileOptions {
  readonly output: (typeof CHANGE_FORMATS)[number];
  readonly dryRun?: boolean;
}

/** `outcome`: created, configured, unchanged, deleted. */
interface Change {
  readonly config: JanusdConfig;
  readonly outcome: string;
  readonly rehearsal?: RehearseResponse;
}

export async function create(
  session: Session,
  {
    file,
    output,
    dryRun,
    events,
  }: FileOptions & RehearsalOptions & { readonly output: (typeof MESSAGE_FORMATS)[number]; readonly dryRun?: boolean },
): Promise<number> {
  if (dryRun) return apply(session, { file, output: output === "json" ? output : "text", dryRun, events });
  const { client, io } = session;
  const handles: JanusdHandle[] = [];
  const documents = await loadGuards(file, io.stdin);
  const done = await eachOf(documents, io, async ({ config }) => {
    handles.push(await client.createGuard(config));
  });
  await warn(client, io, done);
  if (handles.length > 0 || documents.length === 0)
    printMessages(io.stdout, output, JanusdHandleSchema, handles, HANDLE_COLUMNS);
  return done.length === documents.length ? 0 : 1;
}

export async function apply(
  session: Session,
  { file, output, dryRun, events }: ChangeOptions & RehearsalOptions,
): Promise<number> {
  const { client, io } = session;
  const changes: Change[] = [];
  const documents = await loadGuards(file, io.stdin);
  const live = documents.length === 0 ? [] : await client.listGuards({});
  const done = await eachOf(documents, io, async ({ config }) => {
    const before = sameAs(config, live);
    const outcome = before === undefined ? "created" : isUnchanged(before, config) ? "unchanged" : "configured";
    if (!dryRun) {
      await client.createGuard(config);
      changes.push({ config, outcome });
      return;
    }
    await expectContainers(client, config);
    const rehearsal = outcome === "unchanged" ? undefined : await rehearse(session, config, events);
    changes.push({ config, outcome, ...(rehearsal === undefined ? {} : { rehearsal }) });
  });
  printChanges(io, output, changes, dryRun);
  if (dryRun) warnOffline(io, done);
  else await warn(client, io, done);
  return done.length === documents.length ? 0 : 1;
}

/** 1: there is a difference. What it would have changed follows as comments: it is still a patch. */
export async function diff(session: Session, { file, events }: FileOptions & RehearsalOptions): Promise<number> {
  const { client, io } = session;
  const documents = await loadGuards(file, io.stdin);
  const live = documents.length === 0 ? [] : await client.listGuards({});
  let differs = false;
  const done = await eachOf(documents, io, async ({ config, file }) => {
    const before = sameAs(config, live);
    const difference = diffOf(before && configOf(before), config, file);
    io.stdout(difference);
    if (difference === "") return;
    differs = true;
    const rehearsal = await rehearse(session, config, events);
    if (rehearsal !== undefined) io.stdout(rehearsed(rehearsal).replace(/^/gm, "# ").replace(/# $/, ""));
  });
  if (done.length < documents.length) return 2;
  return differs ? 1 : 0;
}

/** Undefined: nobody wants to know, or the daemon can't tell. */
async function rehearse(
  { client, io }: Session,
  config: JanusdConfig,
  events: number,
): Promise<RehearseResponse | undefined> {
  if (events === 0) return undefined;
  try {
    return await client.rehearse({ config, events, examples: SHOWN_EXAMPLES });
  } catch (error) {
    if (!(error instanceof RpcError) || error.code !== "UNIMPLEMENTED") throw error;
    say(io, ["this daemon is older, and can't tell which events would be answered otherwise"]);
    return undefined;
  }
}

/** Says what is wrong with files; asks nobody. */
export async function validate(io: Io, { file }: FileOptions): Promise<number> {
  const guards = await loadGuards(file, io.stdin);
  for (const { file, config } of guards) io.stdout(`${singleLine(`${file}: ${labelOf(config)}`)} is valid\n`);
  warnOffline(io, guards);
  return 0;
}

interface Filter {
  readonly pod?: string;
  readonly namespace?: string;
}

export async function get(
  { client, io }: Session,
  name: string,
  { output, ...filter }: Filter & { readonly output: "yaml" | "json" },
): Promise<number> {
  const [guard, ...others] = await find(client, name, filter);
  if (guard === undefined) return notFound(io, name);
  if (others.length > 0) return ambiguous(io, name, [guard, ...others], "--pod or -n");
  const resource = resourceOf(configOf(guard));
  if (output === "json") printJson(io.stdout, resource);
  else io.stdout(formatResources([resource]));
  return 0;
}

export async function list(
  { client, io }: Session,
  name: string | undefined,
  { output, watch, ...filter }: Filter & { readonly output: ListFormat; readonly watch?: boolean },
): Promise<number> {
  const look = () => find(client, name ?? "", filter);
  if (watch) return watchGuards(io.stdout, output, look);
  const guards = await look();
  if (guards.length === 0 && name !== undefined) return notFound(io, name);
  printGuards(io.stdout, output, guards);
  if (output === "table" || output === "wide") say(io, warningsIn(guards));
  return 0;
}

interface DeleteOptions extends Filter {
  readonly file?: readonly string[];
  readonly all?: boolean;
  readonly output: ChangeOptions["output"];
}

export async function remove(
  { client, io }: Session,
  name: string | undefined,
  { file, all = false, output, ...filter }: DeleteOptions,
): Promise<number> {
  if (name !== undefined) {
    const found = await find(client, name, filter);
    if (found.length > 1 && !all) return ambiguous(io, name, found, "--pod, -n or --all");
    // Also if none is listed: one may wait for its containers.
    await client.destroyGuard({ name, podName: filter.pod ?? "", namespace: filter.namespace ?? "" });
    if (found.length === 0) return notFound(io, name);
    if (output === "json") printJson(io.stdout, { name, count: found.length });
    else io.stdout(`${singleLine(name)} deleted${found.length > 1 ? ` (${found.length} guards)` : ""}\n`);
    return 0;
  }
  const changes: Change[] = [];
  const documents = await loadGuards(file ?? [], io.stdin);
  const done = await eachOf(documents, io, async ({ config }) => {
    const { name, podName, namespace } = config;
    // A request that names no pod, or no namespace, means those of all.
    const meant = await client.listGuards({ name, podName, namespace });
    if (sameAs(config, meant) === undefined) throw new Error("not found");
    if (meant.length > 1 && !all)
      throw new Error(`it would also delete ${placesOf(meant)}: give --all, or delete it by name`);
    await client.destroyGuard({ name, podName, namespace });
    changes.push(...meant.map((guard) => ({ config: configOf(guard), outcome: "deleted" })));
  });
  printChanges(io, output, changes);
  return done.length === documents.length ? 0 : 1;
}

/** Does `work` on each, says what fails, and returns those for which it didn't. */
async function eachOf(
  documents: readonly LoadedGuard[],
  io: Io,
  work: (document: LoadedGuard) => Promise<void>,
): Promise<LoadedGuard[]> {
  const done: LoadedGuard[] = [];
  for (const document of documents) {
    try {
      await work(document);
      done.push(document);
    } catch (error) {
      say(io, faultsOfDocument(error, document));
    }
  }
  return done;
}

/** What the daemon finds doubtful in what it holds now. */
async function warn(client: JanusClient, io: Io, documents: readonly LoadedGuard[]): Promise<void> {
  const live = documents.length === 0 ? [] : await client.listGuards({});
  for (const document of documents) {
    const warnings = sameAs(document.config, live)?.warnings ?? [];
    say(
      io,
      warnings.map(({ field, description }) => saidAt(document, field, `warning: ${description}`)),
    );
  }
}

/** What is doubtful whatever the containers have. */
function warnOffline(io: Io, documents: readonly LoadedGuard[]): void {
  for (const document of documents)
    say(
      io,
      warningsOf(document.config).map(({ field, description }) => saidAt(document, field, `warning: ${description}`)),
    );
}

/** Throws as CreateGuard would, for a container that isn't there. */
async function expectContainers(client: JanusClient, { cid }: JanusdConfig): Promise<void> {
  for (const [index, container] of cid.entries()) {
    try {
      await client.listProcesses(container);
    } catch (error) {
      if (!(error instanceof RpcError) || error.code === "UNAVAILABLE") throw error;
      const violation = { field: `cid[${index}]`, description: error.message };
      throw new RpcError(error.code, error.message, [violation], { cause: error });
    }
  }
}

function find(client: JanusClient, name: string, { pod = "", namespace = "" }: Filter): Promise<GuardDetails[]> {
  return client.listGuards({ name, podName: pod, namespace });
}

function sameAs(config: JanusdConfig, live: readonly GuardDetails[]): GuardDetails | undefined {
  return live.find((guard) => identity(configOf(guard)) === identity(config));
}

/** What it says is enforced, all of it. */
function isUnchanged(live: GuardDetails, config: JanusdConfig): boolean {
  return live.state === GuardState.ACTIVE && live.complete && diffOf(configOf(live), config, "") === "";
}

function printChanges(io: Io, format: ChangeOptions["output"], changes: readonly Change[], dryRun = false): void {
  if (format === "json") {
    const rows = changes.map(({ config: { name, namespace, podName }, outcome, rehearsal }) => ({
      name,
      namespace,
      podName,
      outcome,
      ...(rehearsal && { rehearsal: toJson(RehearseResponseSchema, rehearsal, { alwaysEmitImplicit: true }) }),
    }));
    printJson(io.stdout, rows);
    return;
  }
  for (const { config, outcome, rehearsal } of changes) {
    io.stdout(`${singleLine(labelOf(config))} ${outcome}${dryRun ? " (dry run)" : ""}\n`);
    if (rehearsal !== undefined) io.stdout(rehearsed(rehearsal));
  }
}

function notFound(io: Io, name: string): number {
  io.stderr(`janusctl: guard ${singleLine(name)}: not found\n`);
  return 1;
}

function ambiguous(io: Io, name: string, guards: readonly GuardDetails[], ways: string): number {
  io.stderr(
    `janusctl: ${guards.length} guards are named ${singleLine(name)} (${singleLine(placesOf(guards))}): give ${ways}\n`,
  );
  return 1;
}

function placesOf(guards: readonly GuardDetails[]): string {
  return guards
    .map(configOf)
    .map(({ namespace, podName }) => `${namespace || "-"}/${podName || "-"}`)
    .join(", ");
}

const SHOWN_PIDS = 4;

const HANDLE_COLUMNS: Columns<JanusdHandle> = {
  NAMESPACE: ({ namespace }) => namespace,
  NAME: ({ name }) => name,
  POD: ({ podName }) => podName,
  NODE: ({ nodeName }) => nodeName,
  CONTAINERS: ({ cid }) => cid.map((id) => shortId(id.replace(/^.*:\/\//, ""))).join(","),
  PIDS: ({ pid }) =>
    pid.slice(0, SHOWN_PIDS).join(",") + (pid.length > SHOWN_PIDS ? `,+${pid.length - SHOWN_PIDS}` : ""),
};
