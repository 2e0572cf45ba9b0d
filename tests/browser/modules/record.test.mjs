import assert from "node:assert/strict";
import { test } from "node:test";

import { RecordedConversation } from "../../../sts_trio/web/static/record.js";

const NOON = 1_796_040_000;

/** A record with these rows: [kind, at, body]; `at` is seconds since the call was answered. */
function kept(rows, call = {}) {
  return new RecordedConversation({
    call: {
      call_sid: "CA1",
      created_at: NOON - 2,
      answered_at: NOON,
      ended_at: NOON + 20,
      ending: "stop",
      verdict: "success",
      detail: "",
      summary: null,
      ...call,
    },
    events: rows.map(([kind, at, body]) => ({ kind, at: NOON + at, body })),
  });
}

test("a record is told as the call was while it lasted", () => {
  const { story, spans, isOver, seconds } = kept([
    ["started", 0, { stream_sid: "MZ1" }],
    ["agent_dialled", 0.1, { agent: "default" }],
    ["agent", 1, { text: "One two." }],
    ["heard", 2, { said: "One two.", heard: "One", said_seconds: 1, heard_seconds: 0.5 }],
    ["user", 4, { text: "Yes?", began: NOON + 2.5, until: NOON + 3.5 }],
    ["function_asked", 5, { id: "a", name: "book", arguments: "{}", shield: false }],
    ["function_answered", 6, { id: "a", name: "book", outcome: "done", seconds: 1 }],
    ["function_run_by_agent", 6.5, { id: "b", name: "look", arguments: "{}", content: "{}" }],
    ["agent_lost", 7, { ending: "agent_lost", detail: "" }],
    ["note", 8, { "sts.agent.reconnected": { agent: "default", gap: 1 } }],
    ["note", 9, { outcome: "sold" }],
    ["keys", 10, { digit: "1" }],
    ["handed_over", 11, { agent: "default", to: "sales" }],
    ["ended", 12, { ending: "stop", verdict: "success", detail: "", statistics: { heard: 0.5 } }],
  ]);
  assert.deepEqual(
    story.items.map(({ kind, at, event = "" }) => [kind, at, event]),
    [
      ["turn", 1, ""],
      ["turn", 2.5, ""],
      ["function", 5, ""],
      ["function", 6.5, ""],
      ["note", 7, "agent.lost"],
      ["note", 8, "agent.reconnected"],
      ["note", 9, "call.noted"],
      ["keys", 10, ""],
      ["note", 11, "agent.handed_over"],
      ["end", 12, ""],
    ],
  );
  assert.deepEqual(story.items[0].sentences, [{ text: "One two.", unheard: "two." }]);
  assert.deepEqual([story.items[2].outcome, story.items[3].outcome], ["done", "done"]);
  assert.deepEqual(
    spans.marks.filter(({ kind }) => kind === "function").map(({ from, to }) => [from, to]),
    [
      [5, 6],
      [6.5, 6.5],
    ],
  );
  assert.equal(story.end.fields.ending, "stop");
  assert.deepEqual([isOver, seconds], [true, 12]);
});

test("who spoke when is told in seconds of the call", () => {
  const { spans } = kept([
    ["user", 4, { text: "Yes?", began: NOON + 2.5, until: NOON + 3.5 }],
    ["heard", 6, { said: "A", heard: "A", said_seconds: 1, heard_seconds: 1, began: NOON + 5 }],
  ]);
  assert.deepEqual(
    spans.spoken.map(({ who, from, to }) => [who, from, to]),
    [
      ["caller", 2.5, 3.5],
      ["agent", 5, 6],
    ],
  );
});

test("of a call whose process was gone the record tells the end", () => {
  const { story } = kept([["agent", 1, { text: "One" }]], { ending: "lost", verdict: "ours" });
  assert.deepEqual(
    [story.end.at, story.end.fields],
    [20, { ending: "lost", verdict: "ours", detail: "" }],
  );
});

test("rows of another release cost nothing but themselves", () => {
  const { story } = kept([
    ["moved", 1, { from: "a", to: "b" }],
    ["tomorrow", 1, {}],
    ["agent", 2, { text: "One" }],
  ]);
  assert.deepEqual(
    story.items.map(({ kind }) => kind),
    ["turn", "end"],
  );
});

test("a call that was never answered is told from its beginning", () => {
  const { story, seconds } = kept([["ended", 0, { ending: "refused", verdict: "ours", detail: "full" }]], {
    answered_at: null,
    ended_at: NOON,
    ending: "refused",
  });
  assert.equal(story.items.length, 1);
  assert.equal(seconds, 2);
});

test("a call that another server went on with is one, with one end", () => {
  const rows = [
    ["started", 0, { stream_sid: "MZ1", how: "first" }, 1],
    ["agent", 1, { text: "One" }, 1],
    ["ended", 2, { ending: "moved" }, 1],
    ["started", 3, { stream_sid: "MZ2", how: "moved", gap_seconds: 0.5 }, 3],
    ["agent", 4, { text: "Two" }, 3],
    ["ended", 5, { ending: "stop" }, 3],
  ];
  const { story, log } = new RecordedConversation({
    call: { call_sid: "CA1", created_at: NOON, answered_at: NOON, ended_at: NOON + 5, epoch: 3 },
    events: rows.map(([kind, at, body, epoch]) => ({ kind, at: NOON + at, body, epoch })),
  });
  assert.deepEqual(
    story.items.map(({ kind, at }) => [kind, at]),
    [
      ["turn", 1],
      ["note", 3],
      ["turn", 4],
      ["end", 5],
    ],
  );
  const words = "Another server has taken the call over, after 0.5 s.";
  assert.equal(story.items[1].fields.text, words);
  assert.equal(story.end.fields.ending, "stop");
  assert.equal(log.lines.filter(({ text }) => text.startsWith("call.ended")).length, 1);
});

test("a call that is not over is told as far as it is known", () => {
  const { story, isOver, facts } = kept([["agent", 1, { text: "One" }]], {
    ended_at: null,
    ending: null,
    state: "live",
  });
  assert.deepEqual([story.end, isOver, facts.phase], [null, false, "live"]);
});
