import assert from "node:assert/strict";
import { test } from "node:test";

import { Conversation } from "../../../sts_trio/web/static/conversation.js";

const says = (number, text) => ({
  number,
  at: number,
  event: "call.transcript",
  fields: { role: "user", text },
});

const told = (number, text) => {
  const { number: its, ...rest } = says(number, text);
  return { number: its, told: rest };
};

const facts = { seconds: 9, statistics: {} };

const words = ({ story }) =>
  story.items.flatMap(({ sentences = [] }) => sentences.map(({ text }) => text));

test("what happens while the past is asked for comes behind it, and each once", async () => {
  const conversation = new Conversation("CA1");
  await conversation.catchUp(async (after) => {
    assert.equal(after, 0);
    assert.deepEqual(conversation.hear(says(2, "two")), []);
    assert.deepEqual(conversation.hear(says(3, "three")), []);
    return { ...facts, is_whole: true, events: [told(1, "one"), told(2, "two")] };
  });
  assert.deepEqual(words(conversation), ["one", "two", "three"]);
});

test("what happened while the past could not be had is not lost", async () => {
  const conversation = new Conversation("CA1");
  const asking = conversation.catchUp(async () => {
    conversation.hear(says(2, "two"));
    throw new Error("no answer");
  });
  await assert.rejects(asking, /no answer/);
  assert.deepEqual(words(conversation), ["two"]);
});

test("a past that is not whole is said to be so", async () => {
  const conversation = new Conversation("CA1");
  await conversation.catchUp(async () => ({ ...facts, is_whole: false, events: [told(7, "late")] }));
  assert.deepEqual(
    conversation.story.items.map(({ kind }) => kind),
    ["note", "turn"],
  );
});

test("a call that is gone is over, and one of ours may only be about to begin", async () => {
  const theirs = new Conversation("CA1");
  await theirs.catchUp(async () => null);
  assert.equal(theirs.isOver, true);
  const ours = new Conversation("CA2", { isOurs: true });
  await ours.catchUp(async () => null);
  assert.equal(ours.isOver, false);
});

test("the last figures are those of the end", () => {
  const conversation = new Conversation("CA1");
  conversation.know({ seconds: 9, statistics: { heard: 1, cut: 0 } });
  conversation.hear({ number: 1, at: 9, event: "call.ended", fields: { ending: "stop", heard: 2 } });
  assert.equal(conversation.facts.statistics.heard, 2);
  assert.equal(conversation.facts.statistics.cut, 0);
  assert.equal(conversation.seconds, 9);
});

test("a call whose end was missed is what its record says", async () => {
  const conversation = new Conversation("CA1");
  conversation.hear(says(1, "one"));
  const call = { call_sid: "CA1", created_at: 100, answered_at: 100, ended_at: 109 };
  const row = (at, kind, body) => ({ at, kind, body });
  const record = {
    call: { ...call, ending: "stop", verdict: "success", detail: "", summary: null },
    events: [
      row(101, "agent", { text: "one" }),
      row(105, "agent", { text: "two" }),
      row(109, "ended", { ending: "stop", verdict: "success", detail: "" }),
    ],
  };
  assert.equal(await conversation.catchUp(async () => record), null);
  assert.deepEqual(words(conversation), ["one", "two"]);
  assert.deepEqual([conversation.isOver, conversation.seconds], [true, 9]);
  // Nothing that is told late is told twice.
  assert.deepEqual(conversation.hear(says(3, "two")), []);
  assert.equal(conversation.spans.until, 9);
});

test("a record that has no end yet is that of a call which is gone from here", async () => {
  const record = { call: { ended_at: null }, events: [] };
  const theirs = new Conversation("CA1");
  await theirs.catchUp(async () => record);
  assert.equal(theirs.isOver, true);
  const ours = new Conversation("CA2", { isOurs: true });
  await ours.catchUp(async () => record);
  assert.equal(ours.isOver, false);
});
