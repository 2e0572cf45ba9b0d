import assert from "node:assert/strict";
import { test } from "node:test";

import { Story } from "../../../sts_trio/web/static/story.js";

/** A story that has heard these, numbered from 1, a second apart. */
function told(...events) {
  const story = new Story();
  events.forEach(([event, fields = {}], index) => {
    story.hear({ number: index + 1, at: index, event, fields });
  });
  return story;
}

// Deepgram's roles: whoever is not the user is the agent.
const says = (role, text) => ["call.transcript", { role, text }];
const heard = (said, heard) => ["call.heard", { said, heard }];
const called = (id, name) => ["function.called", { id, name }];

test("who goes on speaking goes on in the same turn", () => {
  const { items } = told(says("agent", "Hello."), says("agent", "Who?"), says("user", "I."));
  assert.deepEqual(
    items.map(({ kind, at, who, sentences }) => [kind, at, who, sentences.length]),
    [
      ["turn", 0, "agent", 2],
      ["turn", 2, "caller", 1],
    ],
  );
});

test("a caller's turn stands where it began, not where its words were known", () => {
  const story = new Story();
  story.hear({
    number: 1,
    at: 5,
    event: "call.transcript",
    fields: { role: "user", text: "I.", began: 3.4 },
  });
  assert.equal(story.items[0].at, 3.4);
});

test("of a live call, a caller's turn began when the agent heard the caller begin", () => {
  const { items } = told(
    says("agent", "Hello."),
    ["caller.started_speaking"],
    says("user", "I."),
    says("agent", "Who?"),
    ["call.barge_in", { cut: 0 }],
    ["call.noted"],
    says("user", "You."),
    says("agent", "Me."),
    says("user", "Yes."),
  );
  const turns = items.filter(({ kind }) => kind === "turn");
  assert.deepEqual(
    turns.map(({ who, at }) => [who, at]),
    [
      ["agent", 0],
      ["caller", 1],
      ["agent", 3],
      ["caller", 4],
      ["agent", 7],
      ["caller", 8],
    ],
  );
});

test("what was cut off is marked in its sentence, whatever came meanwhile", () => {
  const story = told(says("agent", "One two."), says("agent", "Three four."), says("user", "No."));
  const changed = story.hear({
    number: 9,
    at: 9,
    ...{ event: "call.heard", fields: { said: "One two. Three four.", heard: "One two. Three" } },
  });
  assert.deepEqual(changed, [story.items[0]]);
  assert.deepEqual(story.items[0].sentences, [
    { text: "One two.", unheard: "" },
    { text: "Three four.", unheard: "four." },
  ]);
});

test("an event is heard once, however often it is told", () => {
  const story = told(says("user", "One."));
  assert.deepEqual(story.hear({ number: 1, at: 0, event: "call.transcript", fields: {} }), []);
  assert.equal(story.items.length, 1);
});

test("a function is one line from its beginning to its end", () => {
  const { items } = told(called("a", "book"), called("b", "look_up"), [
    "function.finished",
    { id: "a", name: "book", outcome: "done", seconds: 0.4 },
  ]);
  assert.deepEqual(
    items.map(({ name, outcome, seconds }) => [name, outcome, seconds]),
    [
      ["book", "done", 0.4],
      ["look_up", null, null],
    ],
  );
});

test("a function that failed says why, and one that was refused never ran", () => {
  const { items } = told(
    called("a", "book"),
    ["function.failed", { id: "a", name: "book", reason: "no table" }],
    ["function.finished", { id: "a", name: "book", outcome: "failed", seconds: 1 }],
    ["function.refused", { id: "b", name: "book", reason: "too many" }],
  );
  assert.deepEqual(
    items.map(({ outcome, reason }) => [outcome, reason]),
    [
      ["failed", "no table"],
      ["refused", "too many"],
    ],
  );
});

test("keys in a row are one line", () => {
  const { items } = told(["caller.dtmf"], ["caller.dtmf"], says("user", "One."), ["caller.dtmf"]);
  assert.deepEqual(
    items.map(({ kind, count }) => [kind, count]),
    [
      ["keys", 2],
      ["turn", undefined],
      ["keys", 1],
    ],
  );
});

test("of what there is too much, nothing is written", () => {
  assert.deepEqual(told(["caller.started_speaking"], ["unheard.of"], heard("", "")).items, []);
});

test("the end stands last, and is told by the server if it can", () => {
  const story = told(says("user", "One."));
  story.conclude(5, null, 1006);
  story.hear({ number: 8, at: 6, ...{ event: "call.transcript", fields: { role: "user", text: "Two." } } });
  assert.deepEqual(
    story.items.map(({ kind }) => kind),
    ["turn", "end"],
  );
  assert.equal(story.items[0].sentences.length, 2);
  assert.equal(story.end.fields, null);
  const fields = { ending: "caller_lost", detail: "" };
  assert.deepEqual(story.hear({ number: 9, at: 7, event: "call.ended", fields }), [story.end]);
  assert.equal(story.end.fields, fields);
  assert.deepEqual(story.conclude(9, null), []);
  assert.equal(story.items.length, 2);
});

test("what was but cut by a noise is played on, and may be cut again", () => {
  const story = told(says("agent", "One two."), says("agent", "Three four."));
  let number = 9;
  const hear = (event, fields) => story.hear({ number: ++number, at: 9, event, fields });
  hear("call.heard", { said: "One two. Three four.", heard: "One" });
  const unheard = () => story.items[0].sentences.map((sentence) => sentence.unheard);
  assert.deepEqual(unheard(), ["two.", "Three four."]);
  const [turn, note] = hear("call.false_interruption", { seconds: 3, whole: true });
  assert.deepEqual([turn, note.event], [story.items[0], "call.false_interruption"]);
  assert.deepEqual(unheard(), ["", ""]);
  hear("call.heard", { said: "two. Three four.", heard: "two. Three" });
  assert.deepEqual(unheard(), ["", "four."]);
  // Somebody's words are no noise: nothing of it is played on.
  hear("call.transcript", { role: "user", text: "No." });
  assert.deepEqual(unheard(), ["", "four."]);
});

test("a noise before anything was said changes nothing but to be told", () => {
  const story = told(["call.false_interruption", { seconds: 1, whole: true }]);
  assert.deepEqual(
    story.items.map(({ kind }) => kind),
    ["note"],
  );
});
