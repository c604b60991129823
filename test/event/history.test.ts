import t from "tap";
import { EventHistory } from "../../src/event/history.js";
import { NO_DENIERS } from "../../src/subject.js";
import { subjectOf, viewOf } from "../support/records.js";

const BYTES = 4096;

function written(history: EventHistory, seq: number, pathLength: number): void {
  history.write(
    viewOf({ seq: BigInt(seq), path: "x".repeat(pathLength) }),
    subjectOf({ guard: `g${seq}` }),
    NO_DENIERS,
  );
}

/** Sequence, guard and length of the path of all that it has. */
function contents(history: EventHistory): string[] {
  const found: string[] = [];
  for (let position = history.first; position < history.end; position++) {
    const event = history.at(position);
    found.push(`${event?.view.seq} ${event?.subject.guard} ${event?.view.path.length}`);
  }
  return found;
}

t.test("whatever the sizes, it has the last events, whole and in order, and as many as fit", async (t) => {
  const history = new EventHistory(BYTES * 8, () => 0); // a record of 200 KiB never comes here
  let seed = 3;
  const all: string[] = [];
  for (let seq = 1; seq <= 3000; seq++) {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    const length = seed % 17 === 0 ? 5000 : seed % 300;
    written(history, seq, length);
    all.push(`${seq} g${seq} ${length}`);
    const kept = contents(history);
    if (seq % 50 === 0) t.same(kept, all.slice(-kept.length), `after ${seq}`);
  }
  t.equal(history.end, 3000);
  t.equal(history.nextSequence, 3001);
  t.equal(history.at(history.end), undefined);
  t.equal(history.at(history.first - 1), undefined, "what has gone is not there");
});

t.test("its memory is all used before anything goes, and no more events than its slots", async (t) => {
  const history = new EventHistory(BYTES, () => 0);
  const size = viewOf({ path: "x".repeat(100) }).size;
  const fit = Math.floor(BYTES / size);
  for (let seq = 1; seq <= fit; seq++) written(history, seq, 100);
  t.equal(history.first, 0);
  written(history, fit + 1, 100);
  t.equal(history.first, 1);
  const small = new EventHistory(BYTES, () => 0);
  for (let seq = 1; seq <= 1000; seq++)
    small.write(viewOf({ seq: BigInt(seq), path: "/", exe: "" }), subjectOf(), NO_DENIERS);
  t.equal(small.end - small.first, BYTES / 128, "a record is 96 bytes here");
});

t.test("who follows hears once a batch, until it no longer does", async (t) => {
  const history = new EventHistory(BYTES, () => 0);
  let heard = 0;
  history.flush();
  history.follow(() => heard++);
  written(history, 1, 1);
  t.equal(heard, 0);
  history.flush();
  t.equal(heard, 1);
  history.follow(undefined);
  history.flush();
  t.equal(heard, 1);
});
