/** What the kubelet rotates: it goes on doing so, and the container is denied what the guard says. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DENIED, guardManifest } from "../guards.js";
import type { Scenario } from "../scenario.js";

const token = "/var/run/secrets/kubernetes.io/serviceaccount/token";

export const volumes: Scenario = async (t, cluster, janusd) => {
  const namespace = "volumes";
  await cluster.namespace(namespace);
  const object = (kind: string, name: string, data: object) => ({
    ...{ apiVersion: "v1", kind, metadata: { name, namespace } },
    ...data,
  });
  const write = (value: string) =>
    cluster.apply(
      object("Secret", "keys", { stringData: { key: value } }),
      object("ConfigMap", "settings", { data: { setting: value } }),
      object("ConfigMap", "public", { data: { setting: value } }),
    );
  write("one");
  const deny = ["/keys", "/settings", "/one/key", token];
  cluster.apply(guardManifest("secrets", { app: "web" }, { namespace, deny, recursive: true }));
  cluster.startPod("web", {
    namespace,
    labels: { app: "web" },
    container: {
      volumeMounts: [
        { name: "keys", mountPath: "/keys" },
        { name: "keys", mountPath: "/one/key", subPath: "key" },
        { name: "settings", mountPath: "/settings" },
        { name: "public", mountPath: "/public" },
      ],
    },
    spec: {
      volumes: [
        { name: "keys", secret: { secretName: "keys" } },
        { name: "settings", configMap: { name: "settings" } },
        { name: "public", configMap: { name: "public" } },
      ],
    },
  });
  await janusd.guards(namespace, "secrets", 1);
  const read = (path: string) => cluster.exec("web", ["cat", path], { namespace });
  const guarded = (when: string) => {
    for (const path of ["/keys/key", "/one/key", "/settings/setting", token])
      t.match(read(path), { status: 1, stderr: DENIED }, `${path} ${when}`);
    // Behind the kubelet's symbolic links, by the names of the directory that they lead to.
    const through = cluster.exec("web", ["sh", "-c", "cat /keys/..data/key"], { namespace });
    t.match(through, { status: 1, stderr: DENIED }, `through ..data ${when}`);
  };
  guarded("at first");
  t.equal(read("/public/setting").stdout, "one");

  const uid = cluster.get("pod", "web", ".metadata.uid", namespace);
  const onNode = {
    key: join(cluster.volume(uid, "secret", "keys"), "key"),
    setting: join(cluster.volume(uid, "configmap", "settings"), "setting"),
  };
  t.equal(readFileSync(onNode.key, "utf8"), "one", "the node reads it");
  write("two");
  for (const [name, file] of Object.entries(onNode))
    await janusd.until(`the kubelet rotates the ${name}`, () => readFileSync(file, "utf8") === "two");
  await janusd.until("the container sees what isn't guarded", () => read("/public/setting").stdout === "two");
  guarded("after the rotation");
  cluster.api.kubectl(["delete", "namespace", namespace, "--wait=false"]);
};
