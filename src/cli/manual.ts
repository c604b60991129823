/** The manual page, from the same table of commands and flags that is parsed; see man(7). */
import type { Command, Option } from "commander";

const escaped = (text: string) =>
  text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/gm, "\\&$1");

function entry(option: Option): string[] {
  const choices = option.argChoices === undefined ? "" : ` One of: ${option.argChoices.join(", ")}.`;
  return [".TP", `.B ${escaped(option.flags)}`, escaped(`${option.description}.${choices}`)];
}

/** janusctl(1), in the macros of man(7). */
export function manualPage(program: Command): string {
  return [
    '.TH JANUSCTL 1 "" janusd',
    ".SH NAME",
    `janusctl \\- ${escaped("guards files inside containers: the client of janusd")}`,
    ".SH SYNOPSIS",
    ".B janusctl",
    escaped("[options] <command> [arguments]"),
    ".SH COMMANDS",
    ...program.commands.flatMap((command) => [
      `.SS ${escaped(`${command.name()} ${command.usage()}`)}`,
      escaped(`${command.description()}.`),
      ...command.options.flatMap(entry),
    ]),
    ".SH OPTIONS",
    ...program.options.flatMap(entry),
    ".SH EXIT STATUS",
    escaped("0: done. 1: the daemon, the network or a file refused. 2: the command line makes no sense."),
    escaped("diff: 0: the same, 1: different, 2: anything else."),
    ".SH ENVIRONMENT",
    ".TP",
    ".B JANUSD_ADDRESS",
    escaped("what --address is by default."),
    "",
  ].join("\n");
}
