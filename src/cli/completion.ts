/** Completion scripts for shells, from the same table of commands and flags that is parsed. */
import type { Command, Option } from "commander";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** The script to be sourced by `shell`. */
export function completionScript(program: Command, shell: Shell): string {
  return shell === "fish" ? fish(program) : shell === "zsh" ? zsh(program) : bash(program);
}

const flagsOf = (option: Option) => [option.short, option.long].filter((flag) => flag !== undefined);
const takesFile = (option: Option) => option.flags.endsWith("<file>");
const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

/** What may stand after a command: its arguments that are known, its flags, those of all commands. */
function words(command: Command, global: readonly Option[]): string {
  const known = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
  return [...known, ...[...command.options, ...global].flatMap(flagsOf)].join(" ");
}

function values(options: readonly Option[], of: (option: Option) => string): string[] {
  return options
    .filter((option) => option.required)
    .map((option) => `      ${flagsOf(option).join("|")}) ${of(option)} ;;`);
}

function bash(program: Command): string {
  const commands = program.commands.map((command) => command.name());
  const reply = (option: Option) =>
    option.argChoices !== undefined
      ? `COMPREPLY=($(compgen -W ${quoted(option.argChoices.join(" "))} -- "$word")); return`
      : takesFile(option)
        ? `COMPREPLY=($(compgen -f -- "$word")); return`
        : "return";
  return [
    "_janusctl() {",
    `  local word="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" command="" each`,
    "  COMPREPLY=()",
    `  for each in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do`,
    `    case "$each" in ${commands.join("|")}) command="$each"; break ;; esac`,
    "  done",
    '  case "$before" in',
    ...values(program.options, reply),
    "  esac",
    '  case "$command" in',
    "    '')",
    `      COMPREPLY=($(compgen -W ${quoted(`${commands.join(" ")} ${words(program, [])}`)} -- "$word")) ;;`,
    ...program.commands.flatMap((command) => [
      `    ${command.name()})`,
      '      case "$before" in',
      ...values(command.options, reply).map((line) => `  ${line}`),
      "      esac",
      `      COMPREPLY=($(compgen -W ${quoted(words(command, program.options))} -- "$word")) ;;`,
    ]),
    "  esac",
    "}",
    "complete -o filenames -F _janusctl janusctl",
    "",
  ].join("\n");
}

/** zsh runs bash's. */
function zsh(program: Command): string {
  return `autoload -U +X bashcompinit && bashcompinit\n${bash(program)}`;
}

function fish(program: Command): string {
  const line = (option: Option, condition: string) =>
    [
      "complete -c janusctl",
      condition,
      option.short === undefined ? "" : `-s ${option.short.slice(1)}`,
      option.long === undefined ? "" : `-l ${option.long.slice(2)}`,
      option.argChoices !== undefined
        ? `-x -a ${quoted(option.argChoices.join(" "))}`
        : takesFile(option)
          ? "-r -F"
          : option.required
            ? "-x"
            : "",
      `-d ${quoted(option.description)}`,
    ]
      .filter((part) => part !== "")
      .join(" ");
  return [
    "complete -c janusctl -f",
    ...program.options.map((option) => line(option, "")),
    ...program.commands.flatMap((command) => [
      `complete -c janusctl -n __fish_use_subcommand -a ${command.name()} -d ${quoted(command.description())}`,
      ...command.options.map((option) => line(option, `-n '__fish_seen_subcommand_from ${command.name()}'`)),
    ]),
    "",
  ].join("\n");
}
