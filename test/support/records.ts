/**
 * Writes records the way the native side does: an independent rendering of
 * native/record/file_event.h, so that a wrong offset in src/event/layout.ts shows.
 */
import { Buffer } from "node:buffer";
import { FileEventView } from "../../src/event/decode.js";
import type { SubjectContext } from "../../src/subject.js";

export interface RecordFields {
  readonly seq?: bigint;
  readonly timeNs?: bigint;
  readonly cgroupId?: bigint;
  readonly subjectId?: number;
  readonly blockedNs?: number;
  readonly pid?: number;
  readonly ppid?: number;
  readonly uid?: number;
  readonly kind?: number;
  readonly response?: number;
  readonly flags?: number;
  readonly comm?: string;
  readonly path?: string | Uint8Array;
  readonly exe?: string | Uint8Array;
  readonly startNs?: bigint;
  readonly ancestry?: readonly { readonly pid: number; readonly comm: string; readonly exe: string }[];
  readonly asked?: string | Uint8Array;
  readonly argv0?: string | Uint8Array;
  /** Of a rename. */
  readonly other?: string | Uint8Array;
  readonly deniers?: readonly number[];
}

export function encodeRecord(fields: RecordFields): Buffer {
  const path = Buffer.from(fields.path ?? "/etc/passwd");
  const exe = Buffer.from(fields.exe ?? "/bin/busybox");
  const ancestry = Buffer.concat((fields.ancestry ?? []).map(encodeAncestor));
  const deniers = Buffer.from(Uint32Array.from(fields.deniers ?? []).buffer);
  const asked = Buffer.from(fields.asked ?? "");
  const argv0 = Buffer.from(fields.argv0 ?? "");
  const other = Buffer.from(fields.other ?? "");
  const tail = Buffer.concat([path, exe, ancestry, asked, argv0, other, deniers]);
  const unpadded = 96 + tail.length;
  const record = Buffer.alloc(unpadded + ((8 - (unpadded % 8)) % 8), 0);
  record.writeUInt32LE(record.length, 0);
  record.writeUInt16LE(path.length, 4);
  record.writeUInt16LE(exe.length, 6);
  record.writeBigUInt64LE(fields.seq ?? 1n, 8);
  record.writeBigUInt64LE(fields.timeNs ?? 1_700_000_000_123_456_789n, 16);
  record.writeBigUInt64LE(fields.cgroupId ?? 0n, 24);
  record.writeUInt32LE(fields.subjectId ?? 1, 32);
  record.writeUInt32LE(fields.blockedNs ?? 0, 36);
  record.writeInt32LE(fields.pid ?? 4242, 40);
  record.writeInt32LE(fields.ppid ?? 4241, 44);
  record.writeUInt32LE(fields.uid ?? 0, 48);
  record.writeUInt8(fields.kind ?? 0, 52);
  record.writeUInt8(fields.response ?? 0, 53);
  record.writeUInt16LE(fields.flags ?? 0, 54);
  record.write(fields.comm ?? "cat", 56, 16, "latin1");
  record.writeBigUInt64LE(fields.startNs ?? 0n, 72);
  record.writeUInt16LE(ancestry.length, 80);
  record.writeUInt16LE(deniers.length / 4, 82);
  record.writeUInt16LE(asked.length, 84);
  record.writeUInt16LE(argv0.length, 86);
  record.writeUInt16LE(other.length, 88);
  tail.copy(record, 96);
  return record;
}

function encodeAncestor({ pid, comm, exe }: { pid: number; comm: string; exe: string }): Buffer {
  const head = Buffer.alloc(7);
  const [commBytes, exeBytes] = [Buffer.from(comm), Buffer.from(exe)];
  head.writeUInt32LE(pid, 0);
  head.writeUInt8(commBytes.length, 4);
  head.writeUInt16LE(exeBytes.length, 5);
  return Buffer.concat([head, commBytes, exeBytes]);
}

/** A view that stands on its only record. */
export function viewOf(fields: RecordFields): FileEventView {
  const record = encodeRecord(fields);
  const view = new FileEventView(record.length);
  record.copy(view.bytes);
  view.reset(record.length);
  view.next();
  return view;
}

export function subjectOf(fields: Partial<SubjectContext> = {}): SubjectContext {
  return {
    id: 1,
    guard: "passwords",
    subjectIndex: 0,
    tags: { foo: "bar" },
    node: "barnode",
    pod: "foo-1-pod",
    namespace: "default",
    podUid: "b1a6",
    containerId: "c".repeat(64),
    containerName: "web",
    logFormat: "",
    mode: "enforce",
    ...fields,
  };
}
