import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import t from "tap";
import { ConfigError, configurationMarkdown, HelpRequested, parseConfig } from "../src/config.js";

const parse = (args: readonly string[], env: Record<string, string> = {}) => parseConfig(args, env, "1.2.3");
const refusal = (args: readonly string[], env: Record<string, string> = {}): string => {
  try {
    parse(args, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return "accepted";
};

t.test("defaults", async (t) => {
  t.same(parse([]), {
    tls: undefined,
    listen: { host: "127.0.0.1", port: 50051 },
    http: { host: "0.0.0.0", port: 9464 },
    guardsFile: undefined,
    stateFile: "/var/lib/janusd/guards.json",
    nodeName: hostname(),
    containerWaitMs: 3000,
    logFormat: "text",
    logLevel: "info",
    engine: {
      ringBytes: 8 * 1024 * 1024,
      deadlineMs: 1000,
      identityLimit: 16_384,
      ignoreLimit: 65_536,
      ignoreAfter: 0,
      hold: "auto",
      holdLimitMs: 1000,
    },
  });
});

t.test("the original's command line, in every spelling", async (t) => {
  const tls = { ca: "ca.pem", cert: "cert.pem", key: "key.pem" };
  for (const args of [
    ["-tls", "-tlscafile", "ca.pem", "-tlscertfile", "cert.pem", "-tlskeyfile", "key.pem"],
    ["--tls", "--tlscafile=ca.pem", "--tlscertfile=cert.pem", "--tlskeyfile=key.pem"],
    ["-tls=true", "-tlscafile=ca.pem", "--tlscertfile", "cert.pem", "-tlskeyfile=key.pem"],
    ["-tlscafile", "ca.pem", "-tlscertfile", "cert.pem", "-tlskeyfile", "key.pem"],
  ]) {
    t.match(parse(args), { tls, listen: { host: "0.0.0.0", port: 50051 } }, args.join(" "));
  }
});

t.test("TLS without all three files is refused, naming those that are missing", async (t) => {
  t.match(refusal(["-tls"]), /--tlscafile, --tlscertfile, --tlskeyfile/);
  t.match(refusal(["--tlscafile=a", "--tlskeyfile=b"]), /--tlscertfile missing/);
});

t.test("plaintext leaves loopback only when told so", async (t) => {
  for (const address of ["127.0.0.1:1", "127.8.0.1:1", "localhost:1", "[::1]:1"]) {
    t.ok(parse(["--listen", address]), address);
  }
  for (const address of ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "127.0.0.1.example.org:1"]) {
    t.match(refusal(["--listen", address]), /--insecure/, address);
    t.ok(parse(["--listen", address, "--insecure"]), address);
  }
  t.match(parse(["--listen=[::]:7", "--insecure"]), { listen: { host: "::", port: 7 } });
});

t.test("a flag beats the environment, which beats the default", async (t) => {
  const env = { NODE_NAME: "from-env", JANUSD_HTTP: "127.0.0.1:1", JANUSD_INSECURE: "true", JANUSD_RING_SIZE: "1M" };
  t.match(parse([], env), {
    nodeName: "from-env",
    http: { host: "127.0.0.1", port: 1 },
    engine: { ringBytes: 1 << 20 },
  });
  t.match(parse(["--node-name=n", "--http=127.0.0.1:2"], env), { nodeName: "n", http: { port: 2 } });
  t.match(refusal(["--insecure=false", "--listen=0.0.0.0:1"], env), /--insecure/);
  t.match(parse([], { NODE_NAME: "", JANUSD_LOG_LEVEL: "" }), { nodeName: hostname(), logLevel: "info" });
  t.equal(parse([], { JANUSD_STATE_FILE: "" }).stateFile, undefined);
  t.match(refusal([], { JANUSD_LOG_LEVEL: "loud" }), /^JANUSD_LOG_LEVEL "loud": must be one of trace/);
});

t.test("a value may look like a flag", async (t) => {
  t.equal(parse(["--node-name", "-tls"]).nodeName, "-tls");
  t.equal(parse(["-node-name=--tls"]).nodeName, "--tls");
});

t.test("what makes no sense is refused in one line that names it", async (t) => {
  for (const [args, message] of [
    [["--bogus"], /--bogus/],
    [["positional"], /argument/],
    [["--http"], /--http/],
    [["--http", "9464"], /^--http "9464": must be host:port/],
    [["--http", "a:99999"], /--http/],
    [["--log-format=xml"], /text, json/],
    [["--ring-size=1"], /64K/],
    [["--ring-size=1G"], /64K/],
    [["--deadline=0"], /from 1 to/],
    [["--deadline=1e3"], /from 1 to/],
    [["--tls=maybe"], /true or false/],
  ] as const) {
    const found = refusal(args);
    t.match(found, message);
    t.notMatch(found, /\n/);
  }
});

t.test("--help names every flag and variable; --version the version", async (t) => {
  const textOf = (flag: string): string => {
    try {
      parse([flag]);
    } catch (error) {
      if (error instanceof HelpRequested) return error.text;
      throw error;
    }
    return "";
  };
  const page = configurationMarkdown();
  const rows = [...page.matchAll(/^\| `(--[a-z-]+)[^|]*\| `([A-Z_]+)` \|/gm)];
  t.equal(rows.length, page.match(/^\| `--/gm)?.length);
  for (const [, flag = "?", variable = "?"] of rows) {
    for (const help of [textOf("--help"), textOf("-help")]) {
      t.ok(help.includes(flag), flag);
      t.ok(help.includes(variable), variable);
    }
  }
  t.equal(textOf("--version"), "1.2.3\n");
});

t.test("docs/configuration.md is what the table says", async (t) => {
  t.equal(readFileSync(new URL("../docs/configuration.md", import.meta.url), "utf8"), configurationMarkdown());
});
