/** The image that `make image` built: what is in it, and that it guards in a container such as the DaemonSet's. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { cgroupParent, workspaceDirectory } from "../support/cleanup.js";
import { startContainer } from "../support/container.js";
import { eventually } from "../support/daemon.js";
import { Podman } from "../support/runtimes.js";

const checkout = new URL("../../", import.meta.url).pathname;
const { version }: { version: string } = JSON.parse(readFileSync(`${checkout}package.json`, "utf8"));
const architecture = process.arch === "x64" ? "amd64" : process.arch;
const archive = `${checkout}build/image/janusd-${version}-${architecture}.tar`;
const skip = !existsSync(archive) && `there is no ${archive}: make image builds it`;

const CAPABILITIES = "AUDIT_WRITE,DAC_READ_SEARCH,FOWNER,KILL,SYSLOG,SYS_ADMIN,SYS_CHROOT,SYS_NICE,SYS_PTRACE";

t.test("a container of the image, as in the DaemonSet", { skip }, async (t) => {
  const podman = new Podman("runc", t);
  const state = mkdtempSync(join(workspaceDirectory(), "state-"));
  const options = [
    ...["--read-only", "--read-only-tmpfs=false", "--pid=host", "--network=none", "--cgroup-parent", cgroupParent()],
    ...["--cap-drop=ALL", `--cap-add=${CAPABILITIES}`, "--security-opt=seccomp=unconfined"],
    ...["--tmpfs=/run/janusd", `--volume=${state}:/var/lib/janusd`, "--env=NODE_NAME=testnode"],
  ];
  const daemon = podman.runOf(archive, `localhost/janusd:${version}`, options, ["--log-format=off"]);
  const run = (command: string) => daemon.exec("sh", "-c", command);
  const ready = async () => (await run("wget -qO- http://127.0.0.1:9464/readyz")).status === 0;
  await eventually("the daemon in the container is ready", ready);

  t.test("janusctl needs no path and no flags there", async (t) => {
    const { stdout } = await run("janusctl version");
    t.match(stdout, version);
    const commit = execFileSync("git", ["-C", checkout, "rev-parse", "HEAD"], { encoding: "utf8" }).trim();
    const built = JSON.parse((await run("janusctl version -o json")).stdout);
    t.match(JSON.stringify(built), /[0-9a-f]{40}(-dirty)?/, `built of a commit, e.g. ${commit}`);
    t.equal((await run("janusctl list")).status, 0);
    t.equal((await run("janusctl doctor")).status, 0);
  });

  t.test("its root can't be written, and it guards", async (t) => {
    t.not((await run("touch /opt/janusd/x")).status, 0);
    const container = await startContainer({ files: { "/etc/secret": "hunter2" } }, t);
    const guard = {
      ...{ apiVersion: "januscontroller.clustergarage.io/v1alpha1", kind: "JanusGuard", metadata: { name: "a" } },
      spec: { containers: [container.id], subjects: [{ deny: ["/etc/secret"], events: ["open"] }] },
    };
    t.equal((await container.exec(["cat", "/etc/secret"])).stdout, "hunter2");
    const applied = await run(
      `echo '${JSON.stringify(guard)}' >/run/janusd/guard.yaml && janusctl apply -f /run/janusd/guard.yaml`,
    );
    t.match(applied, { status: 0, stdout: /created/ });
    t.match(await container.exec(["cat", "/etc/secret"]), { status: 1, stderr: /not permitted/ });
  });

  t.test("what is in it is listed", async (t) => {
    const sbom: { packages: { name: string }[] } = JSON.parse(readFileSync(`${archive}.spdx.json`, "utf8"));
    const listed = sbom.packages.map(({ name }) => name);
    const debian = (await run("ls /var/lib/dpkg/status.d")).stdout.trim().split("\n");
    const find = "cd /opt/janusd/node_modules && ls -d [!@.]* @*/*";
    const modules = (await run(find)).stdout
      .trim()
      .split("\n")
      .filter((name) => !name.startsWith("."));
    for (const name of [...debian, ...modules, "node"]) t.ok(listed.includes(name), name);
    t.ok(modules.includes("fastify"));
    t.notOk(modules.includes("typescript"), "no tools");
  });
});
