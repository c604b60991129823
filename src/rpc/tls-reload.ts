/**
 * The TLS files, followed: what replaces them is taken up without a restart. What cannot be used changes nothing, and
 * is told.
 *
 * Looks at the files again and again. Kubernetes swaps a symlink two levels up, others write in place or rename over;
 * a notification would have to know each way.
 */
import { X509Certificate } from "node:crypto";
import { statSync } from "node:fs";
import { stat } from "node:fs/promises";
import type { TlsFiles } from "../config.js";
import type { Log } from "../log.js";
import { readTlsFiles, type TlsMaterial } from "./tls-files.js";

/** A change is taken up after two looks that see the same: certificate and key are rarely written at once. */
const LOOK_INTERVAL_MS = 2000;

export class TlsReload {
  readonly #files: TlsFiles;
  readonly #log: Log;
  /** What the files looked like when they were last read, and at the last look. */
  #read: string;
  #seen: string;
  #material: TlsMaterial;
  #expires: Date;
  #failure: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #looking = false;

  /** Reads them. Throws ConfigError: one line, with the flag and the file. */
  constructor(files: TlsFiles, log: Log) {
    this.#files = files;
    this.#log = log;
    this.#read = this.#seen = pathsOf(files)
      .map((file) => lookOf(statSync(file, { throwIfNoEntry: false, bigint: true })))
      .join();
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
    this.#timer = setInterval(() => void this.#look(onChange), LOOK_INTERVAL_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #look(onChange: (material: TlsMaterial) => void): Promise<void> {
    if (this.#looking) return; // A file system that does not answer.
    this.#looking = true;
    const looks = pathsOf(this.#files).map((file) =>
      stat(file, { bigint: true }).then(lookOf, (error: unknown) => String(error)),
    );
    const seen = (await Promise.all(looks)).join();
    this.#looking = false;
    const steady = seen === this.#seen;
    this.#seen = seen;
    if (steady && seen !== this.#read) this.#reload(onChange);
  }

  #reload(onChange: (material: TlsMaterial) => void): void {
    this.#read = this.#seen;
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

function pathsOf({ ca, cert, key }: TlsFiles): string[] {
  return [ca, cert, key];
}

interface Look {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
}

function lookOf(found: Look | undefined): string {
  return found === undefined ? "" : [found.dev, found.ino, found.size, found.mtimeNs].join(":");
}
