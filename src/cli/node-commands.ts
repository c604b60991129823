/** The commands about the node and the daemon. Each resolves to the exit status. */

import { type BuildInfo, readBuild } from "../build.js";
import { singleLine } from "../event/text.js";
import {
  type Container,
  ContainerSchema,
  type Process,
  ProcessRole,
  ProcessSchema,
} from "../gen/janus/v1/inspection_pb.js";
import { loadAddon } from "../native.js";
import { diagnose, formatDiagnosis } from "./doctor.js";
import { faultsOf } from "./faults.js";
import { lookAtMachine } from "./machine.js";
import { type MESSAGE_FORMATS, printJson, printMessages, shortId, timeOf } from "./output.js";
import type { Session } from "./session.js";
import type { Columns } from "./table.js";

interface MessageOptions {
  readonly output: (typeof MESSAGE_FORMATS)[number];
}

export async function containers(
  { client, io }: Session,
  { all = false, output }: MessageOptions & { readonly all?: boolean },
): Promise<number> {
  printMessages(io.stdout, output, ContainerSchema, await client.listContainers(all), CONTAINER_COLUMNS);
  return 0;
}

export async function processes(
  { client, io }: Session,
  container: string,
  { output }: MessageOptions,
): Promise<number> {
  printMessages(io.stdout, output, ProcessSchema, await client.listProcesses(container), PROCESS_COLUMNS);
  return 0;
}

export async function doctor(
  { client, io }: Session,
  { output }: { readonly output: "table" | "json" },
): Promise<number> {
  const daemon = await client.getStatus().then(
    (status) => ({ status }),
    (error: unknown) => ({ error: faultsOf(error).join("; ") }),
  );
  const addon = loadAddon();
  const diagnosis = diagnose(addon.probe(), lookAtMachine(), addon.kept(), daemon);
  if (output === "json") printJson(io.stdout, diagnosis);
  else io.stdout(formatDiagnosis(diagnosis));
  return diagnosis.missing.length === 0 ? 0 : 1;
}

interface VersionOptions {
  readonly client?: boolean;
  readonly output: "text" | "json";
}

/** Ours is said also if the daemon doesn't answer. */
export async function version({ client, io }: Session, { client: only, output }: VersionOptions): Promise<number> {
  const ours = readBuild();
  const theirs = only ? undefined : await client.getStatus().catch((error: unknown) => ({ failure: error }));
  const server = theirs !== undefined && !("failure" in theirs) ? theirs : undefined;
  if (output === "json") {
    const { version, commit } = server ?? {};
    printJson(io.stdout, { client: ours, ...(server === undefined ? {} : { server: { version, commit } }) });
  } else {
    io.stdout(`client: janusctl ${described(ours)}\n`);
    if (server !== undefined) io.stdout(`server: janusd ${described(server)}\n`);
  }
  if (theirs === undefined || server !== undefined) return 0;
  const faults = faultsOf("failure" in theirs ? theirs.failure : undefined);
  for (const line of faults) io.stderr(`janusctl: server: ${singleLine(line)}\n`);
  return 1;
}

function described({ version, commit }: BuildInfo): string {
  return singleLine(`${version} (commit ${commit})`);
}

const CONTAINER_COLUMNS: Columns<Container> = {
  CONTAINER: ({ id }) => shortId(id),
  "FIRST PID": ({ firstPid }) => String(firstPid),
  PROCESSES: ({ processCount }) => String(processCount),
  STARTED: ({ started }) => timeOf(started),
  GUARDS: ({ guards }) =>
    guards.map(({ namespace, name }) => (namespace === "" ? name : `${namespace}/${name}`)).join(","),
  CGROUP: ({ cgroupVersion, cgroupPath }) => `v${cgroupVersion}:${cgroupPath}`,
};

const PROCESS_COLUMNS: Columns<Process> = {
  PID: ({ pid }) => String(pid),
  PPID: ({ ppid }) => String(ppid),
  ROLE: ({ role }) => (role === ProcessRole.OTHER ? "" : (ProcessRole[role] ?? "").toLowerCase()),
  UID: ({ uid }) => String(uid),
  STARTED: ({ started }) => timeOf(started),
  "MOUNT NS": ({ mountNamespace }) => String(mountNamespace),
  COMM: ({ comm }) => comm,
  EXECUTABLE: ({ executable }) => executable,
};
