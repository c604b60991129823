/** The commands with their arguments and flags: what is parsed, and what help, completion and the manual say. */
import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { EVENT_KINDS, EXPLAINED_KINDS } from "../event/layout.js";
import { completionScript, SHELLS } from "./completion.js";
import * as events from "./event-commands.js";
import { parseDuration, parseInterval, parseNot, parseSince, parseUid } from "./event-options.js";
import { EVENT_FORMATS } from "./event-text.js";
import { EXPLAIN_FORMATS, explain } from "./explain.js";
import * as guards from "./guard-commands.js";
import { LIST_FORMATS } from "./guard-list.js";
import { learn, parseFold, parsePath } from "./learn.js";
import { manualPage } from "./manual.js";
import * as node from "./node-commands.js";
import { MESSAGE_FORMATS } from "./output.js";
import { release } from "./release.js";
import type { Io, Runner } from "./session.js";

export function addCommands(program: Command, { online, offline }: Runner): void {
  program
    .command("apply")
    .description("create the guards of a file, or replace those of the same name, namespace and pod")
    .addOption(files())
    .option("--dry-run", "only say what would be done, whether the containers run, and which events would differ")
    .addOption(rehearsedEvents())
    .addOption(output(guards.CHANGE_FORMATS))
    .action((options) => online((session) => guards.apply(session, options)));

  program
    .command("create")
    .description("as apply, and print what the daemon holds")
    .addOption(files())
    .option("--dry-run", "as of apply")
    .addOption(rehearsedEvents())
    .addOption(output(MESSAGE_FORMATS))
    .action((options) => online((session) => guards.create(session, options)));

  program
    .command("diff")
    .description("say what applying a file would change; status 1 if anything, 2 if that is not known")
    .addOption(files())
    .addOption(rehearsedEvents())
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

  const listed = program
    .command("events")
    .description("print what happened to guarded files, as far as the daemon keeps it; -f goes on")
    .option("-f, --follow", "go on with what happens; without --since, only that")
    .addOption(
      new Option(
        "--since <when>",
        "from then on: 30s, 5m, 2h or 1d ago, a time (RFC 3339), or an event's number",
      ).argParser(parseSince),
    );
  ofEvents(listed)
    .addOption(output(EVENT_FORMATS))
    .action((options) => online((session) => events.events(session, options)));

  const top = program
    .command("top")
    .description("show how many events there are a second, and of what; one table if not on a terminal")
    .addOption(new Option("--by <what>", "what to count by").choices(events.TOP_KEYS).default(events.TOP_KEYS[0]))
    .option("--once", "print one table")
    .addOption(new Option("--interval <seconds>", "what rates are of").argParser(parseInterval).default(1));
  ofEvents(top).action((options) => online((session) => events.top(session, options)));

  program
    .command("explain")
    .argument("<container>", "id (64 or 12 hex characters, with or without a scheme) or the runtime's name")
    .argument("<path>", "in the container; it need not exist")
    .description("say how an open or a change of a path would be judged, and why; status 2 if that makes no sense")
    .addOption(
      new Option("--event <event>", "what is done to it").choices(EXPLAINED_KINDS).default(EXPLAINED_KINDS[0] ?? ""),
    )
    .addOption(new Option("--pid <pid>", "also for this process of the node").argParser(pidOf))
    .addOption(output(EXPLAIN_FORMATS))
    .action((container, path, options) => online((session) => explain(session, container, path, options)));

  program
    .command("learn")
    .argument("<container>", "id (64 or 12 hex characters, with or without a scheme) or the runtime's name")
    .argument("<path...>", "in the container: what is opened there, and below", parsePath)
    .description("watch who opens and executes what, and print a guard that allows exactly that: a file for apply")
    .addOption(
      new Option("--for <time>", "for so long: 30s, 10m, 2h or 1d").argParser(parseDuration).default(600_000, "10m"),
    )
    .addOption(
      new Option("--fold <n>", "allow a directory as a whole if more than n of its entries are needed")
        .argParser(parseFold)
        .default(32),
    )
    .action((container, paths, options) => online((session) => learn(session, container, paths, options)));

  program
    .command("doctor")
    .description("say what this machine lets the daemon do, and what is missing; needs no daemon")
    .addOption(output(["table", "json"]))
    .action((options) => online((session) => node.doctor(session, options)));

  program
    .command("release")
    .description("end what daemons have left in the kernel to hold on without them (--keep); needs no daemon")
    .action(() => offline((io) => release(io)));

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

/** Which of the recorded events a guard is judged on that is not applied. */
function rehearsedEvents(): Option {
  return new Option("--events <n>", "say which of the last n recorded events would be answered otherwise; 0: none")
    .argParser(countOf)
    .default(10_000);
}

function countOf(text: string): number {
  if (!/^\d{1,7}$/.test(text)) throw new InvalidArgumentError("Give a whole number, up to 9999999.");
  return Number(text);
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

/** Which events. Of a flag that comes more than once, any value fits. */
function ofEvents(command: Command): Command {
  const several = (flags: string, help: string) =>
    new Option(flags, help).argParser((value: string, before: readonly string[] = []) => [...before, value]);
  return command
    .option("--deny", "only what was denied; with --audit, either")
    .option("--audit", "only what guards that audit would have denied")
    .addOption(
      several("--guard <guard>", "only of this guard, NAME or NAMESPACE/NAME; may be repeated, as all of these"),
    )
    .addOption(several("-n, --namespace <namespace>", "only of guards of this namespace"))
    .addOption(several("--pod <pod>", "only of this pod"))
    .addOption(several("--container <container>", "only of this container: id, its first 12 characters, or name"))
    .addOption(several("--event <event>", `only of this kind: ${EVENT_KINDS.join(", ")}`))
    .addOption(several("--path <glob>", "only of this path and what is below it; or a glob, as in exclude of a guard"))
    .addOption(several("--exe <glob>", "only of processes that run this program; or a glob"))
    .addOption(several("--asked <glob>", "only what was asked for by this path, as the process wrote it; or a glob"))
    .addOption(several("--argv0 <glob>", "only of processes whose program has this first argument; or a glob"))
    .addOption(new Option("--uid <uid>", "only of processes of this user").argParser(parseUid))
    .addOption(
      new Option("--not <field=value>", "leave out what fits: --not path=/tmp, by the names of these flags").argParser(
        parseNot,
      ),
    );
}

function filtered(command: Command): Command {
  return command
    .option("--pod <pod>", "only of this pod")
    .option("-n, --namespace <namespace>", "only of this namespace");
}
