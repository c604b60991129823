/** The TLS files: read, and looked at closely enough to say what is wrong with which. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { ConfigError, type TlsFiles } from "../config.js";

/** PEM, each good for what it is there for. */
export interface TlsMaterial {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Throws ConfigError: one line, with the flag and the file. */
export function readTlsFiles(files: TlsFiles): TlsMaterial {
  const ca = readCa("--tlscafile", files.ca);
  const cert = readCertificate("--tlscertfile", files.cert);
  return { ca, cert, key: readKey("--tlskeyfile", files.key, { ca, cert }) };
}

/** One certificate, or several. Throws as readTlsFiles does. */
export function readCa(flag: string, file: string): string {
  return read(flag, file, (pem) => {
    const blocks = pem.match(/-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/gs) ?? [];
    if (blocks.length === 0) throw new Error("there is no certificate in it");
    for (const block of blocks) new X509Certificate(block);
  });
}

/** Throws as readTlsFiles does. */
export function readCertificate(flag: string, file: string): string {
  return read(flag, file, (pem) => new X509Certificate(pem));
}

/** Of the certificate `cert`. Throws as readTlsFiles does. */
export function readKey(
  flag: string,
  file: string,
  { ca, cert }: { readonly ca: string | undefined; readonly cert: string },
): string {
  return read(flag, file, (key) => {
    if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
      throw new Error("it is another certificate's key");
    }
    // Whatever else OpenSSL minds: a key that is too weak, say.
    createSecureContext({ ...(ca === undefined ? {} : { ca }), cert, key });
  });
}

function read(flag: string, file: string, check: (pem: string) => void): string {
  try {
    const pem = readFileSync(file, "utf8");
    check(pem);
    return pem;
  } catch (cause) {
    throw new ConfigError(`${flag} ${file}: ${reasonOf(cause)}`, { cause });
  }
}

function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  if (!("code" in cause)) return cause.message;
  if (cause.code === "ENOENT") return "there is no such file";
  if (typeof cause.code === "string" && cause.code.startsWith("ERR_OSSL_")) return `no usable PEM (${cause.message})`;
  return cause.message;
}
