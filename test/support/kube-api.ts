/**
 * A real API server and its etcd, without a kubelet, on free loopback ports. The programs come from the
 * cache that `scripts/kube.sh` fills.
 *
 *     t.test("...", { skip: kubeSkip("kube-apiserver") }, async (t) => {
 *       const api = await startKubeApi(t);
 *       api.kubectl(["apply", "-f", "-"], manifest);
 *     });
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { homedir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { certificate } from "./certificates.js";
import { killAtExit, workspaceDirectory } from "./cleanup.js";
import { eventually, freePort } from "./daemon.js";

export const kubePrograms = process.env["JANUSD_KUBE_CACHE"] ?? join(homedir(), ".cache/janusd/kube/bin");

export const kubeProgram = (name: string): string => join(kubePrograms, name);

/** For tap's `skip`: false, or why a test that needs these programs can't run. etcd and kubectl always are. */
export function kubeSkip(...programs: readonly string[]): string | false {
  const missing = ["etcd", "kubectl", ...programs].filter((name) => !existsSync(kubeProgram(name)));
  return missing.length > 0 && `${kubePrograms} has no ${missing.join(", ")}: scripts/kube.sh builds them`;
}

/** Generous: it fails a hung test, it does not measure. */
const PATIENCE_MS = 60_000;

/** In the group system:masters. */
const ADMIN_TOKEN = "janusd-test-admin";

export interface KubeApiOptions {
  /** Default: loopback, and a free port. */
  readonly address?: string;
  readonly port?: number;
  /** A controller manager runs beside it: it makes the service accounts that pods must have. */
  readonly controllers?: boolean;
  /** Who else may come, as lines of a token file: `TOKEN,NAME,UID,"GROUPS"`. */
  readonly users?: readonly string[];
  readonly flags?: (directory: string) => readonly string[];
}

export interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class KubeApi {
  readonly url: string;
  /** Of an administrator. */
  readonly kubeconfig: string;
  readonly directory: string;
  readonly #options: KubeApiOptions;
  readonly #address: string;
  readonly #ports: Ports;
  #etcd: KubeProgram | undefined;
  #server: KubeProgram | undefined;

  private constructor(directory: string, ports: Ports, options: KubeApiOptions) {
    this.directory = directory;
    this.#options = options;
    this.#ports = ports;
    this.#address = options.address ?? "127.0.0.1";
    this.url = `https://${this.#address}:${ports.api}`;
    certificate(directory, "ca");
    const names = `IP:127.0.0.1,IP:${this.#address},DNS:localhost,DNS:kubernetes.default`;
    certificate(directory, "server", { issuer: "ca", names });
    const users = [`${ADMIN_TOKEN},admin,admin,system:masters`, ...(options.users ?? [])];
    writeFileSync(join(directory, "tokens.csv"), users.map((line) => `${line}\n`).join(""));
    const rules = [{ level: "Metadata", userGroups: ["system:serviceaccounts"] }, { level: "None" }];
    const policy = { apiVersion: "audit.k8s.io/v1", kind: "Policy", omitStages: ["RequestReceived"], rules };
    writeFileSync(join(directory, "audit.json"), JSON.stringify(policy));
    this.kubeconfig = this.kubeconfigFor(ADMIN_TOKEN, "admin");
  }

  static async start(options: KubeApiOptions = {}): Promise<KubeApi> {
    const directory = mkdtempSync(join(workspaceDirectory(), "kube-"));
    const port = options.port ?? (await freePort());
    const api = new KubeApi(directory, { api: port, etcd: await freePort(), peer: await freePort() }, options);
    try {
      await api.#startEtcd();
      await api.startServer();
    } catch (error) {
      await api.stop();
      throw error;
    }
    return api;
  }

  /** What service accounts asked, one JSON object a line. */
  get auditLog(): string {
    return join(this.directory, "audit.log");
  }

  /** A kubeconfig file for whoever has this token. */
  kubeconfigFor(token: string, name: string): string {
    const file = join(this.directory, `${name}.kubeconfig`);
    const content = {
      ...{ apiVersion: "v1", kind: "Config", "current-context": name },
      clusters: [{ name, cluster: { server: this.url, "certificate-authority": join(this.directory, "ca.crt") } }],
      users: [{ name, user: { token } }],
      contexts: [{ name, context: { cluster: name, user: name, namespace: "default" } }],
    };
    writeFileSync(file, JSON.stringify(content), { mode: 0o600 });
    return file;
  }

  /** A kubeconfig file of a service account. */
  serviceAccount(namespace: string, name: string): string {
    const token = this.kubectl(["create", "token", name, `--namespace=${namespace}`]).trim();
    return this.kubeconfigFor(token, `${namespace}-${name}`);
  }

  /** Its standard output; throws, with what it wrote to standard error, if it fails. */
  kubectl(args: readonly string[], input?: string): string {
    const { status, stdout, stderr } = this.tryKubectl(args, input);
    if (status !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  tryKubectl(args: readonly string[], input = "", kubeconfig = this.kubeconfig): Outcome {
    return this.#run("kubectl", [`--kubeconfig=${kubeconfig}`, ...args], input);
  }

  tryHelm(args: readonly string[], input = ""): Outcome {
    return this.#run("helm", [`--kubeconfig=${this.kubeconfig}`, ...args], input);
  }

  #run(program: string, args: readonly string[], input: string): Outcome {
    const env = { ...process.env, HOME: this.directory };
    const { status, stdout, stderr } = spawnSync(kubeProgram(program), args, { input, env, encoding: "utf8" });
    return { status: status ?? 1, stdout, stderr };
  }

  /** Ends the API server; etcd goes on, with all that it holds. */
  async stopServer(): Promise<void> {
    await this.#server?.end();
    this.#server = undefined;
  }

  /** The same, and its etcd. */
  async stop(): Promise<void> {
    await this.stopServer();
    await this.#etcd?.end();
    this.#etcd = undefined;
  }

  /** Resolves when it is ready. */
  async startServer(): Promise<void> {
    const { directory } = this;
    const file = (name: string) => join(directory, name);
    const { controllers = false, flags = () => [] } = this.#options;
    this.#server = new KubeProgram(directory, "kube-apiserver", [
      `--etcd-servers=http://127.0.0.1:${this.#ports.etcd}`,
      `--secure-port=${this.#ports.api}`,
      `--bind-address=${this.#address}`,
      `--cert-dir=${directory}`,
      `--tls-cert-file=${file("server.crt")}`,
      `--tls-private-key-file=${file("server.key")}`,
      `--token-auth-file=${file("tokens.csv")}`,
      "--authorization-mode=Node,RBAC",
      "--service-account-issuer=https://kubernetes.default",
      `--service-account-signing-key-file=${file("server.key")}`,
      `--service-account-key-file=${file("server.crt")}`,
      "--service-cluster-ip-range=10.96.0.0/16",
      `--audit-log-path=${this.auditLog}`,
      `--audit-policy-file=${file("audit.json")}`,
      // It would wait for controllers that aren't there.
      ...(controllers ? [] : ["--disable-admission-plugins=ServiceAccount"]),
      ...flags(directory),
    ]);
    await this.#server.until(() => this.#ready());
  }

  async #startEtcd(): Promise<void> {
    const { etcd, peer } = this.#ports;
    const client = `http://127.0.0.1:${etcd}`;
    this.#etcd = new KubeProgram(this.directory, "etcd", [
      `--data-dir=${join(this.directory, "etcd")}`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-cluster=default=http://127.0.0.1:${peer}`,
      "--unsafe-no-fsync",
    ]);
    await this.#etcd.until(async () => (await fetch(`${client}/health`)).ok);
  }

  async #ready(): Promise<boolean> {
    return (await this.request("GET", "/readyz")).status === 200;
  }

  /** As the administrator. `content`: {} if the answer is no JSON. */
  async request(method: string, path: string, body?: object): Promise<{ status: number; content: Answer }> {
    const headers = { authorization: `Bearer ${ADMIN_TOKEN}`, "content-type": "application/json" };
    const ca = readFileSync(join(this.directory, "ca.crt"));
    const call = request(`${this.url}${path}`, { method, ca, headers });
    call.end(body === undefined ? undefined : JSON.stringify(body));
    const [response]: IncomingMessage[] = await once(call, "response");
    if (response === undefined) throw new Error("no response");
    const answer = await text(response);
    return { status: response.statusCode ?? 0, content: answer.startsWith("{") ? JSON.parse(answer) : {} };
  }
}

/** What the API server answers with: a resource, or why not. */
export interface Answer {
  readonly message?: string;
  /** "Failure", or a review's. */
  readonly status?: string | { readonly allowed?: boolean };
  readonly details?: { readonly causes?: readonly { readonly field?: string; readonly message: string }[] };
}

/** The definition of a resource, as the chart has it. */
export function crds(plural: string): string {
  return readFileSync(new URL(`../../deploy/helm/janusd/files/crds/${plural}.yaml`, import.meta.url), "utf8");
}

/** Resolves when the API server serves the resources. */
export async function installCrds(api: KubeApi): Promise<void> {
  const file = new URL("../../deploy/crd.yaml", import.meta.url).pathname;
  api.kubectl(["apply", "--server-side", `--filename=${file}`]);
  api.kubectl(["wait", "--for=condition=Established", `--filename=${file}`]);
  const served = () => ["jg", "cjg", "jn"].every((name) => api.tryKubectl(["get", name]).status === 0);
  await eventually("the resources are served", served);
}

/** Stopped at the end of the test. */
export async function startKubeApi(t: { readonly teardown: (end: () => Promise<void>) => void }): Promise<KubeApi> {
  const api = await KubeApi.start();
  t.teardown(() => api.stop());
  return api;
}

interface Ports {
  readonly api: number;
  readonly etcd: number;
  readonly peer: number;
}

/** A program that runs until its end is asked for. What it writes goes to NAME.log in the directory. */
export class KubeProgram {
  readonly #name: string;
  readonly #log: string;
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown>;
  readonly #forget: () => void;

  /** `enter`: prefix of the command; it has to end as the program. */
  constructor(directory: string, name: string, args: readonly string[], enter: readonly string[] = []) {
    this.#name = name;
    this.#log = join(directory, `${name}.log`);
    const log = openSync(this.#log, "a");
    const program = existsSync(kubeProgram(name)) ? kubeProgram(name) : name;
    const [command = program, ...rest] = [...enter, program, ...args];
    this.#child = spawn(command, rest, { stdio: ["ignore", log, log] });
    closeSync(log);
    this.#forget = this.#child.pid === undefined ? () => undefined : killAtExit(this.#child.pid);
    this.#exit = once(this.#child, "exit");
  }

  async until(ready: () => Promise<boolean> | boolean): Promise<void> {
    for (const end = performance.now() + PATIENCE_MS; performance.now() < end; await sleep(100)) {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) break;
      if (
        await Promise.resolve()
          .then(ready)
          .catch(() => false)
      )
        return;
    }
    throw new Error(`${this.#name} did not become ready: ${this.written().slice(-4096)}`);
  }

  /** What it has written. */
  written(): string {
    return readFileSync(this.#log, "utf8");
  }

  async end(signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<void> {
    this.#child.kill(signal);
    await this.#exit;
    this.#forget();
  }
}
