/** Containers as a kubelet and its runtimes make them, and an engine that holds them. Nothing here knows Kubernetes. */
import { randomBytes, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseConfig } from "../../src/config.js";
import { type Follower, PodArrivals } from "../../src/guard/pod-arrivals.js";
import { type Arrival, type Engine, loadAddon, type NativeGuard } from "../../src/native.js";
import { cgroupParent } from "./cleanup.js";
import { type Container, type ContainerOptions, startContainer, staticProgram } from "./container.js";
import { eventually } from "./daemon.js";

export type Driver = "cgroupfs" | "systemd";

/** The cgroup that the kubelet and its runtime give a container, below the test's own. */
export function podCgroup(id: string, uid: string = randomUUID(), driver: Driver = "cgroupfs"): string {
  if (driver === "cgroupfs") return `${cgroupParent()}/kubepods/burstable/pod${uid}/${id}`;
  const slice = `kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${uid.replaceAll("-", "_")}.slice`;
  return `${cgroupParent()}/${slice}/cri-containerd-${id}.scope`;
}

export interface PodOptions extends ContainerOptions {
  /** Of the pod. */
  readonly podUid?: string;
  readonly driver?: Driver;
}

/** A container of a pod. It is there when its runtime has started it, which may be before its program runs. */
export function startInPod(
  { podUid, driver, ...options }: PodOptions,
  t?: { teardown(handler: () => Promise<void>): unknown },
): Promise<Container> {
  const id = options.id ?? randomBytes(32).toString("hex");
  return startContainer({ ...options, id, cgroupPath: podCgroup(id, podUid, driver) }, t);
}

/** For a container that runs first.c, which ends at once. */
export const oneShot = {
  init: ["/bin/first"],
  files: { "/etc/secret": "s3cret\n" },
  programs: { "/bin/first": staticProgram("first.c") },
};

export const hasRun = (container: Container) => existsSync(join(container.upper, "ran"));

/** Whether first.c could read what it wanted. Waits for its end. */
export async function couldRead(container: Container): Promise<boolean> {
  await eventually("its program has run", () => hasRun(container));
  return existsSync(join(container.upper, "read"));
}

export interface PodEngine {
  readonly engine: Engine;
  readonly pods: PodArrivals;
  /** Denies /etc/secret in a container, until that ends. */
  guard(containerId: string): void;
}

/** A test, or what stands for one. */
interface Ending {
  teardown(handler: () => void): unknown;
  fail(message: string): unknown;
}

/** This machine may run other pods: those go on at once. */
class OwnPods extends PodArrivals {
  override hold(follower: Follower): void {
    super.hold((arrivals) => {
      const isOwn = ({ cgroupPath }: Arrival) => cgroupPath.startsWith(`${cgroupParent()}/`);
      for (const { cgroupId } of arrivals.filter((arrival) => !isOwn(arrival))) this.admit(cgroupId, false);
      const own = arrivals.filter(isOwn);
      if (own.length > 0) follower(own);
    });
  }
}

/** An engine in the test's own process, with the daemon's flags. It holds nobody yet. */
export function startPodEngine(flags: readonly string[], t: Ending): PodEngine {
  const { Engine } = loadAddon();
  const keys = new Map<string, number>();
  let nextKey = 1;
  const engine: Engine = new Engine({ ...parseConfig(flags, {}, "test").engine, stalls: 0 }, () => {
    pods.deliver();
    for (const id of engine.takeEnded()) engine.remove(keys.get(id) ?? 0);
  });
  const log = { error: (about: object) => t.fail(`the follower failed: ${JSON.stringify(about)}`) };
  const pods = new OwnPods({ engine, log });
  engine.start();
  t.teardown(() => engine.stop());
  const guard = (containerId: string): void => {
    const key = nextKey++;
    keys.set(containerId, key);
    engine.apply([secretGuard(key, containerId)]);
  };
  return { engine, pods, guard };
}

/** A follower that guards each container, if it is still there, and admits it. */
export function guarding({ guard, pods }: PodEngine): Follower {
  return (arrivals) => {
    for (const { cgroupId, containerId, held } of arrivals) {
      try {
        guard(containerId);
      } catch (error) {
        if (held) throw error; // else it may have ended
      }
      pods.admit(cgroupId, true);
    }
  };
}

function secretGuard(key: number, containerId: string): NativeGuard {
  const lists = { allow: [], deny: ["/etc/secret"], watch: [], exclude: [] };
  const flags = { onlyDir: false, autoAllowOwner: false, audit: false, recursive: false, onlyContainer: false };
  const policy = { ...lists, ...flags, events: 1, maxDepth: 0, exact: false, enforced: true };
  return { key, policies: [policy], subjects: [{ id: key, containerId, policy: 0 }], partial: false };
}
