// What is in the image, as SPDX: read in the image itself. (`npm sbom --omit=dev` leaves out what development needs, too.)
// Arguments: the image's root, its name, the commit.
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";

const [root, image, commit] = process.argv.slice(2);
const UNKNOWN = "NOASSERTION";

function* modules() {
  const top = join(root, "opt/janusd");
  for (const file of globSync("**/node_modules/{*,@*/*}/package.json", { cwd: top }).sort()) {
    const { name, version, license } = JSON.parse(readFileSync(join(top, file), "utf8"));
    if (version === undefined) continue;
    const purl = `pkg:npm/${name.replace("@", "%40")}@${version}`;
    yield { name, version, purl, license: typeof license === "string" ? license : UNKNOWN };
  }
}

function* debianPackages() {
  for (const file of globSync(join(root, "var/lib/dpkg/status.d/*")).sort()) {
    const control = readFileSync(file, "utf8");
    const field = (name) => new RegExp(`^${name}: (.*)$`, "m").exec(control)?.[1] ?? "";
    const [name, version] = [field("Package"), field("Version")];
    const purl = `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${field("Architecture")}`;
    yield { name, version, purl, license: UNKNOWN };
  }
}

function node() {
  const version = readFileSync(join(root, "usr/local/share/node-version"), "utf8").trim().slice(1);
  return { name: "node", version, purl: `pkg:generic/node@${version}`, license: "MIT" };
}

const parts = new Map([...debianPackages(), node(), ...modules()].map((part) => [part.purl, part]));
const packages = [...parts.values()].map(({ name, version, purl, license }, index) => ({
  ...{ name, SPDXID: `SPDXRef-${index}`, versionInfo: version, downloadLocation: UNKNOWN, filesAnalyzed: false },
  ...{ licenseConcluded: UNKNOWN, licenseDeclared: license, copyrightText: UNKNOWN },
  externalRefs: [{ referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator: purl }],
}));
const whole = {
  ...{ name: image, SPDXID: "SPDXRef-image", versionInfo: commit, downloadLocation: UNKNOWN, filesAnalyzed: false },
  ...{ licenseConcluded: UNKNOWN, licenseDeclared: "MIT", copyrightText: UNKNOWN, primaryPackagePurpose: "CONTAINER" },
};
const relation = (of, relationshipType, to) => ({ spdxElementId: of, relatedSpdxElement: to, relationshipType });
console.log(
  JSON.stringify(
    {
      ...{ spdxVersion: "SPDX-2.3", dataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", name: image },
      documentNamespace: `https://github.com/clustergarage/janusd/spdx/${image}/${commit}`,
      creationInfo: { created: new Date().toISOString().replace(/\.\d+/, ""), creators: ["Tool: janusd scripts/sbom.mjs"] },
      packages: [whole, ...packages],
      relationships: [
        relation("SPDXRef-DOCUMENT", "DESCRIBES", whole.SPDXID),
        ...packages.map(({ SPDXID }) => relation(whole.SPDXID, "CONTAINS", SPDXID)),
      ],
    },
    undefined,
    2,
  ),
);
