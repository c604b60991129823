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
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
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
  readonly #ports: { readonly api: number; readonly etcd: number; readonly peer: number };
  #etcd: Program | undefined;
  #server: Program | undefined;

  private constructor(directory: string, ports: { api: number; etcd: number; peer: number }) {
    this.directory = directory;
    this.#ports = ports;
    this.url = `https://127.0.0.1:${ports.api}`;
    certificate(directory, "ca");
    certificate(directory, "server", { issuer: "ca", names: "IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default" });
    writeFileSync(join(directory, "tokens.csv"), `${ADMIN_TOKEN},admin,admin,system:masters\n`);
    this.kubeconfig = this.kubeconfigFor(ADMIN_TOKEN, "admin");
  }

  static async start(): Promise<KubeApi> {
    const directory = mkdtempSync(join(workspaceDirectory(), "kube-"));
    const api = new KubeApi(directory, { api: await freePort(), etcd: await freePort(), peer: await freePort() });
    try {
      await api.#startEtcd();
      await api.startServer();
    } catch (error) {
      await api.stop();
      throw error;
    }
    return api;
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
    this.#server = new Program("kube-apiserver", [
      `--etcd-servers=http://127.0.0.1:${this.#ports.etcd}`,
      `--secure-port=${this.#ports.api}`,
      "--bind-address=127.0.0.1",
      `--cert-dir=${directory}`,
      `--tls-cert-file=${file("server.crt")}`,
      `--tls-private-key-file=${file("server.key")}`,
      `--token-auth-file=${file("tokens.csv")}`,
      "--authorization-mode=Node,RBAC",
      "--service-account-issuer=https://kubernetes.default",
      `--service-account-signing-key-file=${file("server.key")}`,
      `--service-account-key-file=${file("server.crt")}`,
      "--service-cluster-ip-range=10.96.0.0/16",
      // It would wait for controllers that aren't there.
      "--disable-admission-plugins=ServiceAccount",
    ]);
    await this.#server.until(() => this.#ready());
  }

  async #startEtcd(): Promise<void> {
    const { etcd, peer } = this.#ports;
    const client = `http://127.0.0.1:${etcd}`;
    this.#etcd = new Program("etcd", [
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

class Program {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #exit: Promise<unknown>;
  readonly #forget: () => void;
  #stderr = "";

  constructor(name: string, args: readonly string[]) {
    this.#name = name;
    this.#child = spawn(kubeProgram(name), args, { stdio: ["ignore", "ignore", "pipe"] });
    this.#forget = this.#child.pid === undefined ? () => undefined : killAtExit(this.#child.pid);
    this.#exit = once(this.#child, "exit");
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      // The end of it is what says why it ended.
      this.#stderr = `${this.#stderr}${chunk.toString()}`.slice(-16_384);
    });
  }

  async until(ready: () => Promise<boolean>): Promise<void> {
    for (const end = performance.now() + PATIENCE_MS; performance.now() < end; await sleep(100)) {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) break;
      if (await ready().catch(() => false)) return;
    }
    throw new Error(`${this.#name} did not become ready: ${this.#stderr}`);
  }

  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exit;
    this.#forget();
  }
}
