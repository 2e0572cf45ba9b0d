import assert from "node:assert/strict";
import { test } from "node:test";

import { Turns, median } from "../../../sts_trio/web/static/turns.js";

const SPEECH = -22;
const NOISE = -58;

/** Frames from `began` to `ended`, of the voices that speak; the clock is the loop. */
function play(turns, began, ended, { caller = false, agent = false }) {
  const answers = [];
  for (let frame = Math.round(began * 50) + 1; frame <= Math.round(ended * 50); frame += 1) {
    turns.hearCaller(caller ? SPEECH : NOISE, frame / 50);
    const answer = turns.hearAgent(agent ? SPEECH : -Infinity, frame / 50);
    if (answer) answers.push(answer);
  }
  return answers;
}

function close(actual, expected) {
  assert.ok(Math.abs(actual - expected) <= 0.021, `${actual} is not ${expected}`);
}

test("the greeting is waited for from the beginning of the call", () => {
  const turns = new Turns(0);
  play(turns, 0, 0.4, {});
  const [greeting] = play(turns, 0.4, 2, { agent: true });
  assert.equal(greeting.kind, "greeting");
  close(greeting.answered - greeting.asked, 0.4);
  assert.equal(greeting.words, null);
});

function greeted() {
  const turns = new Turns(0);
  play(turns, 0, 1, { agent: true });
  play(turns, 1, 2, {});
  return turns;
}

test("an answer is waited for from the caller's last word", () => {
  const turns = greeted();
  play(turns, 2, 3, { caller: true });
  play(turns, 3, 3.6, {});
  turns.hearWords(3.6);
  play(turns, 3.6, 3.9, {});
  const [answer] = play(turns, 3.9, 5, { agent: true });
  assert.equal(answer.kind, "answer");
  close(answer.asked, 3);
  close(answer.words - answer.asked, 0.6);
  close(answer.answered - answer.asked, 0.9);
});

test("a pause within what the caller says is no end of it", () => {
  const turns = greeted();
  play(turns, 2, 3, { caller: true });
  play(turns, 3, 3.4, {});
  play(turns, 3.4, 4, { caller: true });
  play(turns, 4, 4.8, {});
  const [answer] = play(turns, 4.8, 5, { agent: true });
  close(answer.asked, 4);
});

test("the agent's second sentence is no second answer", () => {
  const turns = greeted();
  play(turns, 2, 3, { caller: true });
  play(turns, 3, 3.8, {});
  assert.equal(play(turns, 3.8, 5, { agent: true }).length, 1);
  play(turns, 5, 6, {});
  assert.equal(play(turns, 6, 7, { agent: true }).length, 0);
  assert.equal(turns.answers.length, 2);
});

test("a click is no word", () => {
  const turns = greeted();
  play(turns, 2, 2.04, { caller: true });
  play(turns, 2.04, 3, {});
  assert.equal(play(turns, 3, 4, { agent: true }).length, 0);
});

test("a barge-in is measured from the caller's onset to the agent's silence", () => {
  const turns = greeted();
  play(turns, 2, 3, { caller: true });
  play(turns, 3, 3.8, {});
  play(turns, 3.8, 5, { agent: true });
  play(turns, 5, 5.2, { agent: true, caller: true });
  const bargeIn = turns.clear(5.2);
  close(bargeIn.silent - bargeIn.began, 0.2);
  assert.deepEqual(turns.bargeIns, [bargeIn]);
  play(turns, 5.2, 6, { caller: true });
  play(turns, 6, 6.7, {});
  const [answer] = play(turns, 6.7, 7, { agent: true });
  close(answer.answered - answer.asked, 0.7);
});

test("a clear while nobody is heard is no barge-in", () => {
  const turns = greeted();
  play(turns, 2, 2.2, { caller: true });
  assert.equal(turns.clear(2.2), null);
});

test("the median is the one in the middle", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
});
