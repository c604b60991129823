/**
 * The TLS files, followed: what replaces them is taken up without a restart. What cannot be used changes nothing, and
 * is told.
 */
import { X509Certificate } from "node:crypto";
import type { TlsFiles } from "../config.js";
import { FollowedFiles } from "../followed-files.js";
import type { Log } from "../log.js";
import { readTlsFiles, type TlsMaterial } from "./tls-files.js";

const LOOK_INTERVAL_MS = 2000;

export class TlsReload {
  readonly #files: TlsFiles;
  readonly #log: Log;
  readonly #followed: FollowedFiles;
  #material: TlsMaterial;
  #expires: Date;
  #failure: string | undefined;

  /** Reads them. Throws ConfigError: one line, with the flag and the file. */
  constructor(files: TlsFiles, log: Log) {
    this.#files = files;
    this.#log = log;
    this.#followed = new FollowedFiles([files.ca, files.cert, files.key], LOOK_INTERVAL_MS);
    this.#material = readTlsFiles(files);
    this.#expires = new X509Certificate(this.#material.cert).validToDate;
  }

  /** The last that was good. */
  get material(): TlsMaterial {
    return this.#material;
  }

  /** Why the files, as they are now, are not used. Undefined: they are. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** When the certificate in use ends. */
  get expires(): Date {
    return this.#expires;
  }

  /** Calls `onChange` with what replaces `material`. Once; until close(). */
  follow(onChange: (material: TlsMaterial) => void): void {
    this.#followed.follow(() => this.#reload(onChange));
  }

  close(): void {
    this.#followed.close();
  }

  #reload(onChange: (material: TlsMaterial) => void): void {
    try {
      const material = readTlsFiles(this.#files);
      const changed = Object.entries(material).some(([part, pem]) => pem !== Reflect.get(this.#material, part));
      this.#failure = undefined;
      if (!changed) return;
      const { subject, serialNumber, validToDate } = new X509Certificate(material.cert);
      this.#material = material;
      this.#expires = validToDate;
      onChange(material);
      this.#log.info({ subject, serialNumber, expires: validToDate }, "new TLS files are in use");
    } catch (error) {
      this.#failure = error instanceof Error ? error.message : String(error);
      this.#log.error({ reason: this.#failure }, "new TLS files cannot be used: the last good ones stay in use");
    }
  }
}
