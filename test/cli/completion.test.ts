import { execFile, execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { promisify } from "node:util";
import t from "tap";
import { SHELLS } from "../../src/cli/completion.js";
import { janusctl } from "../../src/cli/janusctl.js";

async function output(...args: string[]): Promise<string> {
  let text = "";
  const status = await janusctl(args, {
    stdin: Readable.from([]),
    stdout: (part) => (text += part),
    stderr: (part) => (text += part),
  });
  t.equal(status, 0, args.join(" "));
  return text;
}

/** What bash offers for the last of these words. */
async function offered(script: string, ...words: string[]): Promise<string[]> {
  const body = `${script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _janusctl; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await promisify(execFile)("bash", ["-c", body, "bash", "janusctl", ...words]);
  return stdout.split("\n").filter((line) => line !== "");
}

t.test("bash completes commands, flags, their values and files", async (t) => {
  const script = await output("completion", "bash");
  t.same(await offered(script, "de"), ["delete"]);
  t.same(await offered(script, "--tlsca"), ["--tlscafile"]);
  t.same(await offered(script, "list", "--w"), ["--watch"]);
  t.same(await offered(script, "list", "-o", ""), ["table", "wide", "yaml", "json"]);
  t.same(await offered(script, "get", "-o", "y"), ["yaml"]);
  t.same(await offered(script, "--insecure", "apply", "-f", "pack"), ["package.json", "package-lock.json"].sort());
  t.same(await offered(script, "completion", "f"), ["fish"]);
  t.same(await offered(script, "get", "--pod", ""), [], "nobody knows the pods");
  t.same(await offered(`${script}\n${script}`, "ver"), ["version"], "it may be sourced twice");
});

t.test("fish and zsh get each command and flag", async (t) => {
  for (const shell of SHELLS) {
    const script = await output("completion", shell);
    for (const word of ["apply", "completion", "validate", "watch", "tlscafile", "wide"])
      t.match(script, word, `${shell}: ${word}`);
  }
});

t.test("the manual has each command, and man(1) takes it", async (t) => {
  const page = await output("manual");
  const help = await output("--help");
  const commands = [...help.matchAll(/^ {2}([a-z]+) /gm)].flatMap(([, name]) => (name === "help" ? [] : [name ?? ""]));
  t.ok(commands.length > 10);
  for (const name of commands) t.match(page, new RegExp(`^\\.SS ${name}`, "m"));
  t.notMatch(page, /^\.(?!TH|SH|SS|TP|B)/m, "no line of text is taken for a macro");
  const src = await readFile(new URL("../../src/cli/commands.ts", import.meta.url), "utf8");
  t.equal(commands.length, [...src.matchAll(/\.command\("/g)].length);
  t.equal(
    execFileSync("sh", ["-c", "! command -v groff >/dev/null || groff -man -Tascii -wall 2>&1 >/dev/null"], {
      input: page,
    }).toString(),
    "",
  );
});
