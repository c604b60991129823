/** The commands with their arguments and flags: what is parsed, and what help, completion and the manual say. */
import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { ANSWERED_KINDS } from "../event/layout.js";
import { completionScript, SHELLS } from "./completion.js";
import { EXPLAIN_FORMATS, explain } from "./explain.js";
import * as guards from "./guard-commands.js";
import { LIST_FORMATS } from "./guard-list.js";
import { manualPage } from "./manual.js";
import * as node from "./node-commands.js";
import { MESSAGE_FORMATS } from "./output.js";
import type { Io, Runner } from "./session.js";

export function addCommands(program: Command, { online, offline }: Runner): void {
  program
    .command("apply")
    .description("create the guards of a file, or replace those of the same name, namespace and pod")
    .addOption(files())
    .option("--dry-run", "only say what would be done, and whether the containers run")
    .addOption(output(guards.CHANGE_FORMATS))
    .action((options) => online((session) => guards.apply(session, options)));

  program
    .command("create")
    .description("as apply, and print what the daemon holds")
    .addOption(files())
    .addOption(output(MESSAGE_FORMATS))
    .action((options) => online((session) => guards.create(session, options)));

  program
    .command("diff")
    .description("say what applying a file would change; status 1 if anything, 2 if that is not known")
    .addOption(files())
    .action((options) => online((session) => guards.diff(session, options), 2));

  program
    .command("validate")
    .description("say what is wrong with a file, without a daemon")
    .addOption(files())
    .action((options) => offline((io) => guards.validate(io, options)));

  const get = program
    .command("get")
    .argument("<name>", "the guard's name")
    .description("print a guard as it was applied: a file for apply");
  filtered(get)
    .addOption(output(["yaml", "json"]))
    .action((name, options) => online((session) => guards.get(session, name, options)));

  const list = program
    .command("list")
    .argument("[name]", "only guards of this name")
    .description("list guards: what they guard, how, since when, what they decided");
  filtered(list)
    .option("-w, --watch", "go on, and print what changes")
    .addOption(output(LIST_FORMATS))
    .action((name, options) => online((session) => guards.list(session, name, options)));

  const remove = program.command("delete").argument("[name]", "the guard's name").description("remove guards");
  filtered(remove)
    .addOption(files("those of a file, YAML; - reads standard input; may be repeated").makeOptionMandatory(false))
    .option("--all", "also if several pods or namespaces have a guard of that name")
    .addOption(output(guards.CHANGE_FORMATS))
    .action((name, options) => {
      const { file, pod, namespace } = options;
      if ((name === undefined) === (file === undefined)) remove.error("error: give a name or -f, one of both");
      if (file !== undefined && (pod ?? namespace) !== undefined)
        remove.error("error: with -f, the file names the pod");
      return online((session) => guards.remove(session, name, options));
    });

  program
    .command("containers")
    .description("list the guarded containers of the node")
    .option("-a, --all", "also those without a guard")
    .addOption(output(MESSAGE_FORMATS))
    .action((options) => online((session) => node.containers(session, options)));

  program
    .command("processes")
    .argument("<container>", "id (64 or 12 hex characters, with or without a scheme) or the runtime's name")
    .description("list the processes of a container, guarded or not")
    .addOption(output(MESSAGE_FORMATS))
    .action((container, options) => online((session) => node.processes(session, container, options)));

  program
    .command("explain")
    .argument("<container>", "id (64 or 12 hex characters, with or without a scheme) or the runtime's name")
    .argument("<path>", "in the container; it need not exist")
    .description("say how an open of a path would be judged, and why; status 2 if that makes no sense")
    .addOption(
      new Option("--event <event>", "what is done to it").choices(ANSWERED_KINDS).default(ANSWERED_KINDS[0] ?? ""),
    )
    .addOption(new Option("--pid <pid>", "also for this process of the node").argParser(pidOf))
    .addOption(output(EXPLAIN_FORMATS))
    .action((container, path, options) => online((session) => explain(session, container, path, options)));

  program
    .command("doctor")
    .description("say what this machine lets the daemon do, and what is missing; needs no daemon")
    .addOption(output(["table", "json"]))
    .action((options) => online((session) => node.doctor(session, options)));

  program
    .command("version")
    .description("print the versions of janusctl and of the daemon")
    .option("--client", "only of janusctl")
    .addOption(output(["text", "json"]))
    .action((options) => online((session) => node.version(session, options)));

  program
    .command("completion")
    .addArgument(new Argument("<shell>", "whose script to print").choices(SHELLS))
    .description("print a script for a shell to source, which completes commands and flags")
    .action((shell) => offline((io) => printed(io, completionScript(program, shell))));

  program
    .command("manual")
    .description("print the manual page: janusctl manual > janusctl.1")
    .action(() => offline((io) => printed(io, manualPage(program))));
}

async function printed(io: Io, text: string): Promise<number> {
  io.stdout(text);
  return 0;
}

/** `-f`, which may come more than once. */
function files(help = "JanusGuard resources, YAML; - reads standard input; may be repeated"): Option {
  return new Option("-f, --file <file>", help)
    .argParser((file: string, before: readonly string[] = []) => [...before, file])
    .makeOptionMandatory();
}

function pidOf(text: string): number {
  if (!/^[1-9]\d{0,9}$/.test(text) || Number(text) >= 2 ** 31)
    throw new InvalidArgumentError("Not a process's number.");
  return Number(text);
}

/** `-o`; the first is the default. */
function output([first, ...others]: readonly string[]): Option {
  return new Option("-o, --output <format>", "what to print").choices([first ?? "", ...others]).default(first);
}

function filtered(command: Command): Command {
  return command
    .option("--pod <pod>", "only of this pod")
    .option("-n, --namespace <namespace>", "only of this namespace");
}
