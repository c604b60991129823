/** The command line of the bypass suite: a table, or TAP, and an exit status of 1 if anything slipped. */
import { parseArgs } from "node:util";
import { bypassMarkdown } from "./docs.js";
import {
  listAttempts,
  longestWindows,
  places,
  type Result,
  runSuite,
  type SuiteOptions,
  users,
  windowText,
} from "./suite.js";

const usage = `usage: test/bypass/run [options]
  --iterations N   tries of each race, in each place and as each user (default 300; 3334 if SOAK is set)
  --only NAME      attempts whose name contains it, or a family; repeat or separate by commas
  --against WHAT   nothing | janusd | both (default)
  --as WHO         ${users.join(" | ")} | all (default)
  --place WHERE    ${places.join(" | ")} | all (default)
  --of-container   guards concern the container's own processes only (scope: container)
  --tap            TAP instead of the table
  --list           the attempts as JSON, and nothing is run
  --docs           docs/bypass.md, and nothing is run`;

function choose<Value extends string>(what: string, given: string, among: readonly Value[], all: string): Value[] {
  if (given === all) return [...among];
  return given.split(",").map((name) => {
    const found = among.find((value) => value === name);
    if (found === undefined) throw new Error(`--${what} ${name}: one of ${among.join(", ")}, ${all}`);
    return found;
  });
}

interface Command {
  readonly options: SuiteOptions;
  readonly tap: boolean;
  readonly show: "docs" | "list" | undefined;
}

function parse(): Command {
  const { values } = parseArgs({
    options: {
      iterations: { type: "string", default: process.env["SOAK"] ? "3334" : "300" },
      only: { type: "string", multiple: true, default: [] },
      against: { type: "string", default: "both" },
      as: { type: "string", default: "all" },
      place: { type: "string", default: "all" },
      "of-container": { type: "boolean", default: false },
      tap: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      docs: { type: "boolean", default: false },
    },
  });
  const iterations = Number(values.iterations);
  if (!Number.isInteger(iterations) || iterations < 1) throw new Error("--iterations: a number from 1 up");
  const options = {
    iterations,
    against: choose("against", values.against, ["nothing", "janusd"], "both"),
    as: choose("as", values.as, users, "all"),
    places: choose("place", values.place, places, "all"),
    only: values.only.flatMap((names) => names.split(",")),
    ofContainer: values["of-container"],
  };
  return { options, tap: values.tap, show: values.docs ? "docs" : values.list ? "list" : undefined };
}

const header = ["attempt", "who", "against", "expected", "got"];
const widths = [28, 14, 7, 8] as const;

function row(cells: readonly string[]): string {
  return cells
    .map((cell, index) => cell.padEnd(widths[index] ?? 0))
    .join("  ")
    .trimEnd();
}

/** One row for each attempt and user; what differs by place is told apart. */
function rows(results: readonly Result[]): string[] {
  const [first] = results;
  if (first === undefined) return [];
  const got = new Map<string, string[]>();
  for (const result of results) got.set(result.got, [...(got.get(result.got) ?? []), result.place]);
  const text = got.size === 1 ? first.got : [...got].map(([word, where]) => `${word} [${where.join(" ")}]`).join("; ");
  const mark = results.every((result) => result.ok) ? "" : "  <-- SLIP";
  return [row([first.attempt.name, first.who, first.against, first.expected, `${text}${mark}`])];
}

async function main({ options, tap, show }: Command): Promise<number> {
  if (show !== undefined) {
    process.stdout.write(
      show === "docs" ? bypassMarkdown(listAttempts()) : `${JSON.stringify(listAttempts(), null, 2)}\n`,
    );
    return 0;
  }
  let count = 0;
  const wrong: Result[] = [];
  const withWindows: Result[] = [];
  let group = new Map<string, Result[]>();
  const flush = () => {
    for (const results of group.values()) for (const line of rows(results)) console.log(line);
    group = new Map();
  };
  console.log(tap ? "TAP version 14" : row(header));
  for await (const result of runSuite(options)) {
    count += 1;
    if (!result.ok) wrong.push(result);
    if (result.windows.length > 0) withWindows.push(result);
    if (tap) {
      const { attempt, place, who, against, expected, got } = result;
      console.log(
        `${result.ok ? "ok" : "not ok"} ${count} - ${attempt.name} (${place}) as ${who} against ${against}: ${got}`,
      );
      if (!result.ok) console.log(`  ---\n  expected: ${expected}\n  got: ${JSON.stringify(got)}\n  ...`);
      continue;
    }
    if (
      ![...group.values()].flat().every((known) => known.attempt === result.attempt && known.against === result.against)
    )
      flush();
    group.set(result.who, [...(group.get(result.who) ?? []), result]);
  }
  flush();
  const longest = [...longestWindows(withWindows)].map(
    ([name, us]) => `${name.padEnd(widths[0])}  ${windowText([us])}`,
  );
  if (tap) console.log([`1..${count}`, ...longest.map((line) => `# ${line}`)].join("\n"));
  else {
    if (longest.length > 0) console.log(`\nlongest windows\n${longest.join("\n")}`);
    console.log(`\n${count} runs, ${wrong.length} not as expected`);
  }
  return wrong.length > 0 ? 1 : 0;
}

function commandLine(): Command {
  try {
    return parse();
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n${usage}`);
    process.exit(64);
  }
}

process.exitCode = await main(commandLine());
