/**
 * Whether there is a way to the API server: looked at before anything is enforced, and without the client, which takes a
 * second to load.
 */
import { accessSync, constants, readFileSync } from "node:fs";
import { parse } from "yaml";
import { ConfigError } from "../config.js";

/** A pod's own, where the kubelet mounts them. */
const TOKEN_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/** `kubeconfig`: undefined for a pod's own credentials. Throws ConfigError, one line. */
export function checkCredentials(kubeconfig: string | undefined, env: NodeJS.ProcessEnv): void {
  try {
    if (kubeconfig === undefined) checkPod(env);
    else checkKubeconfig(readFileSync(kubeconfig, "utf8"));
  } catch (cause) {
    const flag = kubeconfig === undefined ? "--kubernetes" : `--kubeconfig ${kubeconfig}`;
    const [reason = ""] = (cause instanceof Error ? cause.message : String(cause)).split("\n");
    throw new ConfigError(`${flag}: ${reason}`, { cause });
  }
}

function checkPod(env: NodeJS.ProcessEnv): void {
  for (const variable of ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"]) {
    if (!env[variable]) throw new Error(`not in a pod (${variable} is not set): --kubeconfig names credentials`);
  }
  accessSync(TOKEN_FILE, constants.R_OK);
}

function checkKubeconfig(text: string): void {
  const config: unknown = parse(text);
  const context = named(
    config,
    "contexts",
    textAt(config, "current-context") ?? fail("has no current-context"),
    "context",
  );
  const cluster = named(
    config,
    "clusters",
    textAt(context, "cluster") ?? fail("its context has no cluster"),
    "cluster",
  );
  named(config, "users", textAt(context, "user") ?? fail("its context has no user"), "user");
  const server = textAt(cluster, "server") ?? "";
  if (!["http:", "https:"].includes(URL.parse(server)?.protocol ?? "")) {
    fail(`the server of its cluster is no URL: ${JSON.stringify(server)}`);
  }
}

function named(config: unknown, list: string, name: string, what: string): unknown {
  const entries = valueAt(config, list);
  const entry: unknown = Array.isArray(entries) ? entries.find((each) => textAt(each, "name") === name) : undefined;
  return entry === undefined ? fail(`has no ${what} ${JSON.stringify(name)}`) : valueAt(entry, what);
}

function textAt(content: unknown, key: string): string | undefined {
  const value = valueAt(content, key);
  return typeof value === "string" && value !== "" ? value : undefined;
}

function valueAt(content: unknown, key: string): unknown {
  return typeof content === "object" && content !== null ? Reflect.get(content, key) : undefined;
}

function fail(reason: string): never {
  throw new Error(reason);
}
