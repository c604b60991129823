/** Containers that do their worst to their neighbours, by storms.c. */
import { type Actor, type Capabilities, type Container, startContainer, staticProgram } from "./container.js";
import type { GuardInit } from "./daemon.js";

/** The kinds of storms.c, and what each may do in its container. */
export const stormKinds = [
  ["names", { uid: 1000 }],
  ["threads", { uid: 1000 }],
  ["mounts", { capabilities: "sys_admin" }],
  ["namespaces", { uid: 1000 }],
  ["links", { uid: 1000 }],
  ["pins", { uid: 1000 }],
] as const satisfies readonly (readonly [string, { readonly uid?: number; readonly capabilities?: Capabilities }])[];

export type StormKind = (typeof stormKinds)[number][0];

/** What its guard denies, recursively: a file that is there, a name that is not, and names below it. */
const denied = ["s", "late", ...Array.from({ length: 10 }, (_, index) => `late/${index}`)].map(
  (name) => `/data/${name}`,
);

export class Attacker {
  readonly container: Container;
  readonly kind: StormKind;
  #storm: Actor | undefined;

  private constructor(container: Container, kind: StormKind) {
    this.container = container;
    this.kind = kind;
  }

  static async start(kind: StormKind): Promise<Attacker> {
    const programs = { "/bin/actor": staticProgram("storms.c") };
    const container = await startContainer({ programs, volumes: [{ target: "/data" }] });
    container.writeVolume(0, "s/token", "");
    await container.exec(["chmod", "-R", "777", "/data"]);
    return new Attacker(container, kind);
  }

  get guard(): GuardInit {
    const subject = [{ deny: denied, recursive: true, event: ["open"] }];
    return { name: this.kind, podName: this.kind, nodeName: "testnode", cid: [this.container.id], subject };
  }

  async #command(...fields: readonly (string | number)[]): Promise<number> {
    if (this.#storm === undefined) throw new Error("not prepared");
    const [errno, count = 0] = await this.#storm.command(...fields);
    if (errno !== 0) throw new Error(`${fields.join(" ")}: errno ${errno}`);
    return count;
  }

  /** To be called once, when it is guarded. */
  async prepare(): Promise<void> {
    this.#storm = await this.container.actor(stormKinds.find(([kind]) => kind === this.kind)?.[1]);
    await this.#command("prepare", this.kind, "/data");
  }

  /** Resolves when the storm is over; rejects if nothing was done. */
  async storm(milliseconds: number): Promise<number> {
    const count = await this.#command("storm", this.kind, "/data", milliseconds);
    if (count === 0) throw new Error(`the storm of ${this.kind} did nothing`);
    return count;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.container.stop();
  }
}
