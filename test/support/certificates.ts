/** Certificates of a test's own, by openssl. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

export interface CertificateOptions {
  /** Of an authority made before. Undefined: signs itself, and is one. */
  readonly issuer?: string;
  /** As openssl writes subjectAltName. Default: those of a server on loopback. */
  readonly names?: string;
  /** From now; may be negative. */
  readonly days?: number;
  /** Default: `/CN=` and the file's name. */
  readonly subject?: string;
}

/** NAME.crt and NAME.key in the directory. Throws if openssl fails. */
export function certificate(directory: string, name: string, options: CertificateOptions = {}): void {
  const { issuer, names = "IP:127.0.0.1,DNS:localhost", days = 2, subject = `/CN=${name}` } = options;
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: directory, stdio: "pipe" });
  const key = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", `${name}.key`];
  if (issuer === undefined) {
    openssl("req", "-x509", ...key, "-subj", subject, "-days", String(days), "-out", `${name}.crt`);
    return;
  }
  openssl("req", ...key, "-subj", subject, "-out", `${name}.csr`);
  writeFileSync(join(directory, `${name}.ext`), `subjectAltName=${names}\n`);
  const signed = ["-CA", `${issuer}.crt`, "-CAkey", `${issuer}.key`, "-CAcreateserial", "-days", String(days)];
  openssl("x509", "-req", "-in", `${name}.csr`, ...signed, "-extfile", `${name}.ext`, "-out", `${name}.crt`);
}
