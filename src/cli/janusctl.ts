/**
 * The command line client. Exit status: 0 done, 1 the daemon (or the network,
 * or a file) refused, or the doctor misses something, 2 the command line makes no sense;
 * `diff`: 0 the same, 1 different, 2 anything else.
 */
import { readFileSync } from "node:fs";
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import { Command, CommanderError, Option } from "commander";
import { singleLine } from "../event/text.js";
import { JanusClient } from "./client.js";
import { addCommands } from "./commands.js";
import { faultsOf } from "./faults.js";
import type { Io } from "./session.js";

interface GlobalOptions {
  readonly address: string;
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
    .option("--tls", "use TLS (any of the files below does so too)")
    .option("--tlscafile <file>", "CA that signed the daemon's certificate, PEM")
    .option("--tlscertfile <file>", "our certificate, PEM")
    .option("--tlskeyfile <file>", "our private key, PEM")
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ writeOut: io.stdout, writeErr: io.stderr })
    .exitOverride();

  let exitStatus = 0;
  let failureStatus = 1;
  addCommands(program, {
    offline: async (work) => {
      exitStatus = await work(io);
    },
    online: async (work, ifItFails = 1) => {
      failureStatus = ifItFails;
      const options = program.opts<GlobalOptions>();
      const client = new JanusClient(options.address, credentialsOf(options, program));
      try {
        exitStatus = await work({ client, io });
      } finally {
        client.close();
      }
    },
  });

  try {
    await program.parseAsync(args, { from: "user" });
    return exitStatus;
  } catch (error) {
    // Help and version come here too, with status 0. Commander has told the rest already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE_ERROR;
    for (const line of faultsOf(error)) io.stderr(`janusctl: ${singleLine(line)}\n`);
    return failureStatus;
  }
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
