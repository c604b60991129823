/**
 * The command line client. Exit status: 0 done, 1 the daemon (or the network,
 * or a file) refused, or the doctor misses something, 2 the command line makes no sense;
 * `diff`: 0 the same, 1 different, 2 anything else.
 */
import { Command, CommanderError, Option } from "commander";
import { JanusClient } from "./client.js";
import { addCommands } from "./commands.js";
import { type ConnectionOptions, connectionOf, DEFAULT_ADDRESS } from "./connection.js";
import { faultsOf, say } from "./faults.js";
import type { Io } from "./session.js";

const USAGE_ERROR = 2;

/** Runs one command. `args` without the program's name. Resolves to the exit status. */
export async function janusctl(args: readonly string[], io: Io): Promise<number> {
  const program = new Command("janusctl")
    .description("Guards files inside containers: the client of janusd.")
    .addOption(
      new Option("--address <address>", "where janusd listens: unix:///path, host or host:port")
        .default(DEFAULT_ADDRESS)
        .env("JANUSD_ADDRESS"),
    )
    .option("--insecure", "talk to a daemon without TLS over TCP [env JANUSD_INSECURE]")
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
      const client = clientOf(program);
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
    say(io, faultsOf(error));
    return failureStatus;
  }
}

function clientOf(program: Command): JanusClient {
  try {
    const { target, credentials, diagnose } = connectionOf(program.opts<ConnectionOptions>(), process.env);
    return new JanusClient(target, credentials, diagnose);
  } catch (error) {
    return program.error(`error: ${error instanceof Error ? error.message : error}`);
  }
}
