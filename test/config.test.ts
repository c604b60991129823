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
    allowedClients: [],
    listen: [{ path: "/run/janusd/janusd.sock" }],
    http: { host: "::", port: 9464 },
    metricsIntervalMs: 1000,
    guardsFile: undefined,
    stateFile: "/var/lib/janusd/guards.json",
    nodeName: hostname(),
    containerWaitMs: 3000,
    canaryMs: 2000,
    logFile: undefined,
    logFormat: "text",
    otlpEndpoint: undefined,
    logLevel: "info",
    eventHistoryBytes: 8 * 1024 * 1024,
    engine: {
      ringBytes: 8 * 1024 * 1024,
      deadlineMs: 1000,
      identityLimit: 16_384,
      ignoreLimit: 65_536,
      ignoreAfter: 0,
      hold: "auto",
      holdLimitMs: 1000,
      version: "1.2.3",
      kernelDecides: true,
      keep: true,
      away: "allow",
      podWaitMs: 2000,
      stallLimitMs: 10_000,
      stallFile: "/var/lib/janusd/guards.json.stalled",
      keeperCgroup: "",
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
    const listen = [{ path: "/run/janusd/janusd.sock" }, { host: "::", port: 50051 }];
    t.match(parse(args), { tls, listen }, args.join(" "));
  }
});

t.test("TLS without all three files is refused, naming those that are missing", async (t) => {
  t.match(refusal(["-tls"]), /--tlscafile, --tlscertfile, --tlskeyfile/);
  t.match(refusal(["--tlscafile=a", "--tlskeyfile=b"]), /--tlscertfile missing/);
});

t.test("plaintext over TCP only when told so, on loopback too", async (t) => {
  for (const address of ["127.0.0.1:1", "localhost:1", "[::1]:1", "0.0.0.0:1", "[::]:1", "node.example.org:1"]) {
    t.match(refusal(["--listen", address]), /^--listen .*: gRPC over TCP needs the TLS files, or --insecure$/, address);
    t.ok(parse(["--listen", address, "--insecure"]), address);
  }
  t.match(parse(["--listen=[::]:7", "--insecure"]), { listen: [{ host: "::", port: 7 }] });
});

t.test("what becomes of opens while no daemon is there, only where something is kept", async (t) => {
  t.equal(parse(["--away=deny"]).engine.away, "deny");
  t.equal(parse([], { JANUSD_AWAY: "deny" }).engine.away, "deny");
  t.match(refusal(["--away=never"]), /^--away "never": must be one of allow, deny$/);
  for (const flag of ["--keep=false", "--kernel-decides=false"]) {
    t.match(refusal(["--away=deny", flag]), /^--away deny .*needs --keep and --kernel-decides$/);
    t.ok(parse(["--away=allow", flag]));
  }
});

t.test("clients that may command, by name and role", async (t) => {
  const tls = ["--tlscafile=a", "--tlscertfile=b", "--tlskeyfile=c"];
  t.same(parse(tls).allowedClients, []);
  t.same(
    parse([...tls, "--allow-client", "spiffe://a/b", "--allow-client=c d=read", "-allow-client=e=admin"])
      .allowedClients,
    [
      { name: "spiffe://a/b", role: "admin" },
      { name: "c d", role: "read" },
      { name: "e", role: "admin" },
    ],
  );
  t.match(parse(tls, { JANUSD_ALLOW_CLIENT: "a=read,b" }).allowedClients, [{ name: "a", role: "read" }, { name: "b" }]);
  for (const text of ["", "=read", "a=raed", "CN=a", "a="]) {
    t.match(refusal([...tls, "--allow-client", text]), /^--allow-client ".*": must be NAME, NAME=admin or NAME=read$/);
  }
  t.match(refusal(["--allow-client=a"]), /^--allow-client .*needs the TLS files$/);
});

t.test("several listeners, by several flags or by a variable with commas", async (t) => {
  const listen = [{ path: "/a,b" }, { host: "127.0.0.1", port: 1 }];
  t.same(parse(["--listen", "unix:///a,b", "--listen=127.0.0.1:1", "--insecure"]).listen, listen);
  const env = { JANUSD_LISTEN: "unix:///a,127.0.0.1:1", JANUSD_INSECURE: "1" };
  t.same(parse([], env).listen, [{ path: "/a" }, { host: "127.0.0.1", port: 1 }]);
  t.same(parse(["--listen", "unix:///b"], env).listen, [{ path: "/b" }]);
  t.match(refusal([], { ...env, JANUSD_LISTEN: "unix:///a,50051" }), /^JANUSD_LISTEN "50051": must be unix:/);
  t.match(parse(["--http", "a:1", "--http", "b:2"]), { http: { host: "b", port: 2 } }, "of others the last counts");
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
    [["--http", "unix:///a"], /^--http "unix:\/\/\/a": must be host:port/],
    [["--listen", "unix:a"], /^--listen "unix:a": must be unix:\/\/\/path, with an absolute path/],
    [["--http", "a:99999"], /--http/],
    [["--log-format=xml"], /text, json/],
    [["--otlp-endpoint=collector:4318"], /^--otlp-endpoint "collector:4318": must be an http or https URL/],
    [["--otlp-endpoint=http://a:b@c"], /must be an address and a path/],
    [["--canary=50"], /from 100 to/],
    [["--ring-size=1"], /64K/],
    [["--ring-size=1G"], /64K/],
    [["--event-history=64K"], /1M to 1024M/],
    [["--log-file=/var/log/events.log", "--log-format=off"], /^--log-file is about the event log, and/],
    [["--log-file=events.log"], /^--log-file "events.log": must be an absolute path/],
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
