/**
 * The program: configuration in, signals, exit status.
 * 0 after SIGTERM or SIGINT; 1 if it cannot run or a part failed; 2 if the
 * configuration makes no sense.
 */
import closeWithGrace from "close-with-grace";
import { readBuild } from "./build.js";
import { type Config, ConfigError, HelpRequested, parseConfig } from "./config.js";
import { CannotRun, type Daemon, initDaemon } from "./daemon.js";
import { type DaemonLog, openLog } from "./log.js";

const CANNOT_RUN = 1;
const MISCONFIGURED = 2;

/**
 * More than all that a shutdown waits for, and less than the 10 s after which the engine ends the process, JavaScript
 * or not (kProcessEndLimit in native/engine.cc). Milliseconds.
 */
const SHUTDOWN_MS = 9_000;

/**
 * What would end Node, or be taken by close-with-grace for a wish to end, and means nothing here. Sent by habit:
 * log rotation, a debugger.
 */
const IGNORED = ["SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGPIPE"] as const;

/** Faults of native code: with a listener, Node would go on, and the instruction would fault again, for ever. */
const FAULTS = ["SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGABRT"] as const;

const build = readBuild();

const config = readConfig();
if (config !== undefined) await run(config);

function readConfig(): Config | undefined {
  try {
    return parseConfig(process.argv.slice(2), process.env, build.version);
  } catch (error) {
    if (error instanceof HelpRequested) {
      process.stdout.write(error.text);
      return undefined;
    }
    if (!(error instanceof ConfigError)) throw error;
    complain(error.message);
    process.exitCode = MISCONFIGURED;
    return undefined;
  }
}

async function run(settings: Config): Promise<void> {
  const log = openLog(settings.logLevel);
  const starting = new AbortController();
  for (const signal of IGNORED) process.on(signal, () => log.info({ signal }, "ignored"));
  // One that comes while it starts waits until it has.
  process.on("SIGHUP", () => void started.then((daemon) => daemon.reload()).catch(() => undefined));
  const started = initDaemon(settings, { log, build, signal: starting.signal });
  const skip: closeWithGrace.AllEvents[] = ["SIGHUP", "SIGQUIT", "SIGUSR2", ...FAULTS];
  const grace = closeWithGrace({ delay: SHUTDOWN_MS, logger: false, skip }, async ({ err, signal }) => {
    if (err !== undefined) log.error({ err }, "unexpected failure: stopping");
    else log.info({ signal }, "stopping");
    starting.abort();
    const daemon: Daemon | undefined = await started.catch(() => undefined);
    await daemon?.close();
    log.info({}, "stopped");
    await log.close();
  });
  try {
    await started;
  } catch (error) {
    if (starting.signal.aborted) return;
    grace.uninstall();
    process.exitCode = await explain(error, log);
  }
}

/** Why it did not start, in as many lines as there are reasons; the exit status. */
async function explain(error: unknown, log: DaemonLog): Promise<number> {
  await log.close();
  if (error instanceof CannotRun) {
    for (const reason of error.reasons) complain(reason);
    return CANNOT_RUN;
  }
  for (const line of (error instanceof Error ? error.message : String(error)).split("\n")) complain(line);
  // By name: the file's parser is loaded only where there is a file.
  const configured = !(error instanceof ConfigError) && !(error instanceof Error && error.name === "GuardFileError");
  return configured ? CANNOT_RUN : MISCONFIGURED;
}

function complain(line: string): void {
  process.stderr.write(`janusd: ${line}\n`);
}
