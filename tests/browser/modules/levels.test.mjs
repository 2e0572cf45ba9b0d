import assert from "node:assert/strict";
import { test } from "node:test";

import { encode } from "../../../sts_trio/web/static/g711.js";
import { Levels } from "../../../sts_trio/web/static/levels.js";

const HEADER = 58;

/** A recording of so many samples; the caller is loud in its first half, the agent in its last. */
function recorded(samples) {
  const file = new Uint8Array(HEADER + 2 * samples).fill(0x80, 0, HEADER);
  for (let n = 0; n < samples; n += 1) {
    file[HEADER + 2 * n] = encode(n < samples / 2 ? 0.5 : 0);
    file[HEADER + 2 * n + 1] = encode(n < samples / 2 ? 0 : -0.25);
  }
  return file;
}

test("both sides are as loud as they are, in whichever pieces they come", () => {
  const file = recorded(8000);
  for (const step of [1, 57, 59, 4001, file.length]) {
    const levels = new Levels(file.length, 4);
    for (let at = 0; at < file.length; at += step) levels.hear(file.subarray(at, at + step));
    assert.equal(levels.seconds, 1);
    const near = (points) => Array.from(points, (point) => Math.round(20 * point) / 20);
    assert.deepEqual(near(levels.caller), [0.5, 0.5, 0, 0], `steps of ${step}`);
    assert.deepEqual(near(levels.agent), [0, 0, 0.25, 0.25], `steps of ${step}`);
  }
});

test("nothing breaks a recording without a sound, or one that is longer than was said", () => {
  new Levels(HEADER, 4).hear(new Uint8Array(HEADER));
  const levels = new Levels(HEADER + 2, 4);
  levels.hear(recorded(100));
  assert.equal(levels.caller.length, 4);
});
