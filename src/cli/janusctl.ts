/**
 * The command line client. Exit status: 0 done, 1 the daemon (or the network,
 * or a file) refused, or the doctor misses something, 2 the command line makes no sense.
 */
import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import { Command, CommanderError, Option } from "commander";
import { singleLine } from "../event/text.js";
import {
  type Container,
  ContainerSchema,
  type Process,
  ProcessRole,
  ProcessSchema,
} from "../gen/janus/v1/inspection_pb.js";
import { type JanusdHandle, JanusdHandleSchema } from "../gen/janus_pb.js";
import { parseGuardFile } from "../guard/file.js";
import { loadAddon } from "../native.js";
import { JanusClient, RpcError } from "./client.js";
import { type Diagnosis, diagnose, formatDiagnosis } from "./doctor.js";
import { lookAtMachine } from "./machine.js";
import { formatTable } from "./table.js";

export interface Io {
  readonly stdin: NodeJS.ReadableStream;
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
}

interface DeleteOptions {
  readonly pod?: string;
  readonly namespace?: string;
  readonly all?: boolean;
}

interface GlobalOptions {
  readonly address: string;
  readonly output: "table" | "json";
  readonly tls?: true;
  readonly tlscafile?: string;
  readonly tlscertfile?: string;
  readonly tlskeyfile?: string;
}

const USAGE_ERROR = 2;

/** Runs one command. `args` without the program's name. Resolves to the exit status. */
export async function janusctl(args: readonly string[], io: Io): Promise<number> {
  const program = new Command("janusctl")
    .description("Guards files inside containers: the client of janusd.")
    .addOption(
      new Option("--address <host:port>", "where janusd listens").default("127.0.0.1:50051").env("JANUSD_ADDRESS"),
    )
    .addOption(new Option("-o, --output <format>", "what to print").choices(["table", "json"]).default("table"))
    .option("--tls", "use TLS (any of the files below does so too)")
    .option("--tlscafile <file>", "CA that signed the daemon's certificate, PEM")
    .option("--tlscertfile <file>", "our certificate, PEM")
    .option("--tlskeyfile <file>", "our private key, PEM")
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ writeOut: io.stdout, writeErr: io.stderr })
    .exitOverride();

  let exitStatus = 0;
  const run = async (work: (client: JanusClient, print: Printer) => Promise<number>): Promise<void> => {
    const options = program.opts<GlobalOptions>();
    const client = new JanusClient(options.address, credentialsOf(options, program));
    try {
      exitStatus = await work(client, printerOf(options.output, io.stdout));
    } finally {
      client.close();
    }
  };

  program
    .command("create")
    .description("create the guards of a file, or replace those of the same name")
    .requiredOption("-f, --file <file>", "JanusGuard resources, YAML; - reads standard input")
    .action(({ file }: { file: string }) =>
      run(async (client, print) => {
        const guards =
          file === "-"
            ? parseGuardFile(await text(io.stdin), "stdin")
            : parseGuardFile(readFileSync(file, "utf8"), file);
        const handles: JanusdHandle[] = [];
        let failed = 0;
        for (const guard of guards) {
          try {
            handles.push(await client.createGuard(guard));
          } catch (error) {
            report(error, `guard ${guard.name}`, io);
            failed++;
          }
        }
        if (handles.length > 0 || failed === 0) print.messages(JanusdHandleSchema, handles, HANDLE_COLUMNS);
        return failed === 0 ? 0 : 1;
      }),
    );

  program
    .command("list")
    .description("list the guards whose containers run")
    .action(() =>
      run(async (client, print) => {
        print.messages(JanusdHandleSchema, await client.getGuardState(), HANDLE_COLUMNS);
        return 0;
      }),
    );

  program
    .command("delete")
    .argument("<name>", "the guard's name")
    .description("remove a guard")
    .option("--pod <pod>", "only from this pod")
    .option("-n, --namespace <namespace>", "the guard's namespace")
    .option("--all", "also if several pods or namespaces have a guard of that name")
    .action((name: string, { pod = "", namespace = "", all = false }: DeleteOptions) =>
      run(async (client, print) => {
        const meant = (await client.getGuardState()).filter(
          (guard) =>
            guard.name === name &&
            (namespace === "" || guard.namespace === namespace) &&
            // (One that lost a container is listed without its pod.)
            (pod === "" || guard.podName === pod || guard.podName === ""),
        );
        if (meant.length > 1 && !all) {
          const where = meant.map((guard) => `${guard.namespace || "-"}/${guard.podName || "-"}`).join(", ");
          io.stderr(
            `janusctl: ${meant.length} guards are named ${singleLine(name)} (${singleLine(where)}): give --pod, -n or --all\n`,
          );
          return 1;
        }
        // Also if none is listed: the daemon may hold one that is pending.
        await client.destroyGuard({ name, podName: pod, namespace });
        if (meant.length === 0) {
          io.stderr(`janusctl: guard ${singleLine(name)}: not found\n`);
          return 1;
        }
        print.deleted(name, meant.length);
        return 0;
      }),
    );

  program
    .command("containers")
    .description("list the guarded containers of the node")
    .option("-a, --all", "also those without a guard")
    .action(({ all = false }: { all?: boolean }) =>
      run(async (client, print) => {
        print.messages(ContainerSchema, await client.listContainers(all), CONTAINER_COLUMNS);
        return 0;
      }),
    );

  program
    .command("processes")
    .argument("<container>", "id (64 or 12 hex characters, with or without a scheme) or the runtime's name")
    .description("list the processes of a container, guarded or not")
    .action((container: string) =>
      run(async (client, print) => {
        print.messages(ProcessSchema, await client.listProcesses(container), PROCESS_COLUMNS);
        return 0;
      }),
    );

  program
    .command("doctor")
    .description("say what this machine lets the daemon do, and what is missing; needs no daemon")
    .action(() =>
      run(async (client, print) => {
        const daemon = await client.getStatus().then(
          (status) => ({ status }),
          (error: unknown) => ({ error: linesOf(error).join("; ") }),
        );
        const diagnosis = diagnose(loadAddon().probe(), lookAtMachine(), daemon);
        print.diagnosis(diagnosis);
        return diagnosis.missing.length === 0 ? 0 : 1;
      }),
    );

  try {
    await program.parseAsync(args, { from: "user" });
    return exitStatus;
  } catch (error) {
    // Help and version come here too, with status 0. Commander has told the rest already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE_ERROR;
    report(error, undefined, io);
    return 1;
  }
}

type Columns<T> = Readonly<Record<string, (row: T) => string>>;

interface Printer {
  messages<D extends DescMessage>(
    schema: D,
    messages: readonly MessageShape<D>[],
    columns: Columns<MessageShape<D>>,
  ): void;
  deleted(name: string, count: number): void;
  diagnosis(diagnosis: Diagnosis): void;
}

function printerOf(format: GlobalOptions["output"], out: Io["stdout"]): Printer {
  const json = (value: unknown): void => out(`${JSON.stringify(value, undefined, 2)}\n`);
  return format === "json"
    ? {
        messages: (schema, messages) =>
          json(messages.map((message) => toJson(schema, message, { alwaysEmitImplicit: true }))),
        deleted: (name, count) => json({ name, count }),
        diagnosis: json,
      }
    : {
        messages: (_schema, messages, columns) => out(formatTable(columns, messages)),
        deleted: (name, count) => out(`${singleLine(name)} deleted${count > 1 ? ` (${count} guards)` : ""}\n`),
        diagnosis: (diagnosis) => out(formatDiagnosis(diagnosis)),
      };
}

const SHORT_ID = 12;
const SHOWN_PIDS = 4;

const HANDLE_COLUMNS = {
  NAMESPACE: (handle: JanusdHandle) => handle.namespace,
  NAME: (handle: JanusdHandle) => handle.name,
  POD: (handle: JanusdHandle) => handle.podName,
  NODE: (handle: JanusdHandle) => handle.nodeName,
  CONTAINERS: (handle: JanusdHandle) => handle.cid.map((cid) => shortId(cid.replace(/^.*:\/\//, ""))).join(","),
  PIDS: ({ pid }: JanusdHandle) =>
    pid.slice(0, SHOWN_PIDS).join(",") + (pid.length > SHOWN_PIDS ? `,+${pid.length - SHOWN_PIDS}` : ""),
};

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

/** Only of ids that runtimes make: a name stays whole. */
function shortId(id: string): string {
  return /^[0-9a-f]{64}$/.test(id) ? id.slice(0, SHORT_ID) : id;
}

function timeOf(timestamp: Timestamp | undefined): string {
  return timestamp === undefined
    ? ""
    : timestampDate(timestamp)
        .toISOString()
        .replace(/\.\d+Z$/, "Z");
}

function credentialsOf(options: GlobalOptions, program: Command): ChannelCredentials {
  const { tls, tlscafile, tlscertfile, tlskeyfile } = options;
  if ((tlscertfile === undefined) !== (tlskeyfile === undefined)) {
    program.error("error: --tlscertfile and --tlskeyfile belong together");
  }
  if (tls === undefined && tlscafile === undefined && tlscertfile === undefined) return credentials.createInsecure();
  const read = (file: string | undefined) => (file === undefined ? null : readFileSync(file));
  return credentials.createSsl(read(tlscafile), read(tlskeyfile), read(tlscertfile));
}

/** One line a fault. */
function report(error: unknown, subject: string | undefined, io: Io): void {
  const prefix = subject === undefined ? "janusctl" : `janusctl: ${singleLine(subject)}`;
  for (const line of linesOf(error)) io.stderr(`${prefix}: ${singleLine(line)}\n`);
}

function linesOf(error: unknown): string[] {
  if (error instanceof RpcError) {
    const { code, message, violations } = error;
    if (violations.length === 0) return [`${code}: ${message}`];
    return violations.map(({ field, description }) => `${code}: ${field}: ${description}`);
  }
  return (error instanceof Error ? error.message : String(error)).split("\n");
}
