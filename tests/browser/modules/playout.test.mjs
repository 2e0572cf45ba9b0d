import assert from "node:assert/strict";
import { test } from "node:test";

import { Playout } from "../../../sts_trio/web/static/playout.js";

const bytes = (length, first = 0) => Uint8Array.from({ length }, (_, n) => (first + n) % 251);

function take(playout, length) {
  const frame = new Uint8Array(length);
  const marks = playout.take(frame);
  return { frame, marks };
}

test("what is sent is played in order, once, and then there is silence", () => {
  const playout = new Playout();
  playout.play(bytes(100));
  playout.play(bytes(60, 100));
  assert.deepEqual(take(playout, 90).frame, bytes(90));
  assert.equal(playout.waiting, 70);
  const { frame } = take(playout, 90);
  assert.deepEqual(frame.subarray(0, 70), bytes(70, 90));
  assert.deepEqual(frame.subarray(70), new Uint8Array(20).fill(0xff));
  assert.equal(playout.played, 160);
});

test("a mark comes back when all audio before it was played, and not sooner", () => {
  const playout = new Playout();
  playout.play(bytes(100));
  assert.deepEqual(playout.mark("a"), []);
  playout.play(bytes(100));
  assert.deepEqual(playout.mark("b"), []);
  assert.deepEqual(take(playout, 99).marks, []);
  assert.deepEqual(take(playout, 1).marks, ["a"]);
  assert.deepEqual(take(playout, 200).marks, ["b"]);
  assert.deepEqual(take(playout, 200).marks, []);
});

test("a mark on an empty buffer comes back at once", () => {
  const playout = new Playout();
  assert.deepEqual(playout.mark("at once"), ["at once"]);
  playout.play(bytes(10));
  take(playout, 10);
  assert.deepEqual(playout.mark("again"), ["again"]);
});

test("a clear drops what was not played, and sends every pending mark back in order", () => {
  const playout = new Playout();
  playout.play(bytes(100));
  playout.mark("a");
  playout.play(bytes(100));
  playout.mark("b");
  take(playout, 40);
  assert.deepEqual(playout.clear(), ["a", "b"]);
  assert.equal(playout.waiting, 0);
  assert.equal(playout.played, 40);
  assert.deepEqual(take(playout, 20).frame, new Uint8Array(20).fill(0xff));
});

test("after a clear it starts afresh", () => {
  const playout = new Playout();
  playout.play(bytes(100));
  playout.clear();
  assert.deepEqual(playout.clear(), []);
  playout.play(bytes(50, 7));
  assert.deepEqual(playout.mark("c"), []);
  const { frame, marks } = take(playout, 50);
  assert.deepEqual(frame, bytes(50, 7));
  assert.deepEqual(marks, ["c"]);
});

test("it holds ten minutes, and drops what is more", () => {
  const playout = new Playout();
  for (let minute = 0; minute < 11; minute += 1) playout.play(new Uint8Array(60 * 8000));
  assert.equal(playout.waiting, 600 * 8000);
  assert.equal(playout.dropped, 60 * 8000);
});
