/**
 * Events as messages of a stream. Written field by field from the engine's record, with what a subject contributes
 * encoded once: a message object for each event would cost several times as much.
 *
 * Each function returns a whole WatchResponse of one item. Their bytes one after the other are a WatchResponse, too.
 */
import { isUtf8 } from "node:buffer";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import type { FileEventView } from "../event/decode.js";
import { EVENT_KINDS, FLAG, RESPONSES } from "../event/layout.js";
import {
  EventAncestorSchema,
  EventGuardSchema,
  EventProcessSchema,
  EventSchema,
  EventSubjectSchema,
  Response,
  WatchItemSchema,
  WatchResponseSchema,
} from "../gen/janus/v1/events_pb.js";
import type { Deniers, SubjectContext } from "../subject.js";

const NS_PER_SECOND = 1_000_000_000n;

const { items: ITEMS } = WatchResponseSchema.field;
const ITEM = WatchItemSchema.field;
const EVENT = EventSchema.field;
const PROCESS = EventProcessSchema.field;
const ANCESTOR = EventAncestorSchema.field;
const TIMESTAMP = TimestampSchema.field;

/** By their names in records. */
export const RESPONSE = {
  allow: Response.ALLOW,
  deny: Response.DENY,
  audit: Response.AUDIT,
} as const satisfies Record<(typeof RESPONSES)[number], Response>;

interface Field {
  readonly number: number;
}

export function encodeItem(item: NonNullable<MessageInitShape<typeof WatchItemSchema>["item"]>): Uint8Array {
  return toBinary(WatchResponseSchema, create(WatchResponseSchema, { items: [{ item }] }));
}

export function encodeEvent(view: FileEventView, subject: SubjectContext, deniers: Deniers): Uint8Array {
  const { flags } = view;
  const writer = new BinaryWriter();
  begin(writer, ITEMS);
  begin(writer, ITEM.event);
  writer.tag(EVENT.sequence.number, WireType.Varint).uint64(view.seq);
  timestamp(writer, EVENT.time, view.timeNs);
  number(writer, EVENT.response, responseOf(view));
  writer.tag(EVENT.event.number, WireType.LengthDelimited).string(EVENT_KINDS[view.kind] ?? "unknown");
  text(writer, EVENT.path, view.pathBytes);
  if (!view.pathIsUtf8) writer.tag(EVENT.pathBytes.number, WireType.LengthDelimited).bytes(view.pathBytes);
  flag(writer, EVENT.directory, view.isDirectory);
  writer.tag(EVENT.subject.number, WireType.LengthDelimited).bytes(encodedSubject(subject));
  begin(writer, EVENT.process);
  writeProcess(writer, view);
  writer.join();
  flag(writer, EVENT.answered, (flags & FLAG.answered) !== 0);
  flag(writer, EVENT.watched, (flags & FLAG.watched) !== 0);
  flag(writer, EVENT.owner, (flags & FLAG.owner) !== 0);
  flag(writer, EVENT.late, (flags & FLAG.late) !== 0);
  flag(writer, EVENT.audited, (flags & FLAG.audited) !== 0);
  number(writer, EVENT.blockedNs, view.blockedNs);
  for (const { guard: name, namespace, mode } of deniers.others) {
    const guard = create(EventGuardSchema, { name, namespace, auditing: mode === "audit" });
    const message = toBinary(EventGuardSchema, guard);
    writer.tag(EVENT.deniers.number, WireType.LengthDelimited).bytes(message);
  }
  flag(writer, EVENT.deniersCut, deniers.cut);
  if (view.hasOther) writeOther(writer, view);
  flag(writer, EVENT.merged, (flags & FLAG.merged) !== 0);
  flag(writer, EVENT.found, (flags & FLAG.found) !== 0);
  if (view.hasAsked) text(writer, EVENT.asked, view.askedBytes);
  return writer.join().join().finish();
}

/** Of a rename: the name that is not the event's path. */
function writeOther(writer: BinaryWriter, view: FileEventView): void {
  const { otherIsOld } = view;
  text(writer, otherIsOld ? EVENT.oldPath : EVENT.newPath, view.otherBytes);
  if (view.otherIsUtf8) return;
  const { number } = otherIsOld ? EVENT.oldPathBytes : EVENT.newPathBytes;
  writer.tag(number, WireType.LengthDelimited).bytes(view.otherBytes);
}

function writeProcess(writer: BinaryWriter, view: FileEventView): void {
  number(writer, PROCESS.pid, view.pid);
  if (view.startNs !== 0n) timestamp(writer, PROCESS.started, view.startNs);
  number(writer, PROCESS.ppid, view.ppid);
  number(writer, PROCESS.uid, view.uid);
  text(writer, PROCESS.comm, view.commBytes);
  text(writer, PROCESS.executable, view.exeBytes);
  flag(writer, PROCESS.inside, (view.flags & FLAG.inside) !== 0);
  for (const { pid, comm, exe } of view.ancestry) {
    begin(writer, PROCESS.ancestry);
    number(writer, ANCESTOR.pid, pid);
    writer.tag(ANCESTOR.comm.number, WireType.LengthDelimited).string(comm);
    writer.tag(ANCESTOR.executable.number, WireType.LengthDelimited).string(exe);
    writer.join();
  }
  flag(writer, PROCESS.ancestryCut, (view.flags & FLAG.cut) !== 0);
  if (view.hasArgv0) text(writer, PROCESS.argv0, view.argv0Bytes);
}

function responseOf({ response }: FileEventView): Response {
  const name = RESPONSES[response];
  return name === undefined ? Response.UNSPECIFIED : RESPONSE[name];
}

const subjects = new WeakMap<SubjectContext, Uint8Array>();

function encodedSubject(subject: SubjectContext): Uint8Array {
  let message = subjects.get(subject);
  if (message === undefined) {
    const { guard, namespace, pod, podUid, node, containerId: container, containerName } = subject;
    const names = { guard, namespace, pod, podUid, node, container, containerName };
    const { subjectIndex: index, tags, mode } = subject;
    const init = { ...names, index, tags: { ...tags }, auditing: mode === "audit" };
    message = toBinary(EventSubjectSchema, create(EventSubjectSchema, init));
    subjects.set(subject, message);
  }
  return message;
}

/** A message within the message, until `join`. */
function begin(writer: BinaryWriter, { number }: Field): void {
  writer.tag(number, WireType.LengthDelimited).fork();
}

/** A string field must be UTF-8: bytes that are not become U+FFFD. */
function text(writer: BinaryWriter, { number }: Field, bytes: Buffer): void {
  writer.tag(number, WireType.LengthDelimited);
  if (isUtf8(bytes)) writer.bytes(bytes);
  else writer.string(bytes.toString("utf8"));
}

function number(writer: BinaryWriter, { number }: Field, value: number): void {
  if (value !== 0) writer.tag(number, WireType.Varint).int64(value);
}

function flag(writer: BinaryWriter, { number }: Field, value: boolean): void {
  if (value) writer.tag(number, WireType.Varint).bool(true);
}

function timestamp(writer: BinaryWriter, field: Field, ns: bigint): void {
  begin(writer, field);
  writer.tag(TIMESTAMP.seconds.number, WireType.Varint).int64(ns / NS_PER_SECOND);
  number(writer, TIMESTAMP.nanos, Number(ns % NS_PER_SECOND));
  writer.join();
}
