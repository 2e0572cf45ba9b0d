import assert from "node:assert/strict";
import { test } from "node:test";

import { Spans } from "../../../sts_trio/web/static/spans.js";

/** Spans that have heard these: [at, event, fields]. */
function told(...events) {
  const spans = new Spans();
  for (const [at, event, fields = {}] of events) spans.hear({ at, event, fields });
  return spans;
}

const settled = (at, said, heard) => [
  at,
  "call.heard",
  { said_seconds: said, heard_seconds: heard },
];

test("both voices are spans, and what of a turn went unheard is told", () => {
  const { spoken } = told(
    settled(2, 1.5, 1.5),
    [3, "caller.started_speaking"],
    [5.2, "call.transcript", { role: "user", text: "Hello?", until: 4.5 }],
    settled(8, 5, 2),
  );
  assert.deepEqual(spoken, [
    { who: "agent", from: 0.5, to: 2, cut: 0 },
    { who: "caller", from: 3, to: 4.5, cut: 0 },
    { who: "agent", from: 6, to: 8, cut: 3 },
  ]);
});

test("a wait is from the caller's last word to the first sound that answers it", () => {
  const { waits, turns } = told(
    settled(2, 1, 1),
    [5, "call.transcript", { role: "user", text: "One", until: 4 }],
    [6, "call.transcript", { role: "user", text: "two", until: 5.5 }],
    settled(7.5, 0.5, 0.5),
    settled(9, 1, 1),
  );
  assert.deepEqual(waits, [{ from: 5.5, to: 7 }]);
  assert.deepEqual(turns.answers, [{ kind: "answer", asked: 5.5, words: 6, answered: 7 }]);
});

test("to a turn that nobody heard nobody has waited", () => {
  const { spoken, waits } = told(
    [5, "call.transcript", { role: "user", text: "One", until: 4 }],
    settled(6, 0, 0),
    settled(7, 2, 0),
  );
  assert.deepEqual(waits, []);
  assert.deepEqual(spoken.at(-1), { who: "agent", from: 7, to: 7, cut: 2 });
});

test("without a word of when the caller spoke, it was when the words came", () => {
  const { spoken } = told([5, "call.transcript", { role: "user", text: "One" }]);
  assert.deepEqual(spoken, [{ who: "caller", from: 5, to: 5, cut: 0 }]);
});

test("functions and losses last until their end, or the call's", () => {
  const { marks } = told(
    [1, "function.called", { id: "a", name: "book" }],
    [2, "function.called", { id: "b", name: "look_up" }],
    [3, "function.finished", { id: "a", name: "book" }],
    [4, "agent.lost", { ending: "agent_lost" }],
    [5, "agent.reconnected", {}],
    [6, "agent.lost", { ending: "agent_mute" }],
    [7, "caller.dtmf", {}],
    [9, "call.ended", {}],
  );
  assert.deepEqual(
    marks.map(({ kind, from, to }) => [kind, from, to]),
    [
      ["function", 1, 3],
      ["function", 2, 9],
      ["loss", 4, 5],
      ["loss", 6, 9],
      ["keys", 7, 7],
    ],
  );
});

test("only an interruption that cut something is marked, and until when it was silent told", () => {
  const { marks, turns } = told(
    [1, "call.barge_in", { cut: 0 }],
    [2, "call.barge_in", { cut: 1.2 }],
    [2.5, "call.silenced", { after: 0.5 }],
  );
  assert.deepEqual(marks, [{ kind: "barge-in", from: 2, to: 2, name: "" }]);
  assert.deepEqual(turns.bargeIns, [{ began: 2, silent: 2.5 }]);
});

test("what was but cut by a noise is spoken later, and not unheard", () => {
  const { spoken } = told(
    settled(3, 5, 2),
    [4.2, "call.false_interruption", { seconds: 3, whole: true }],
    settled(7.5, 3.3, 3.3),
  );
  assert.deepEqual(
    spoken.map(({ to, cut }) => [to, cut]),
    [
      [3, 0],
      [7.5, 0],
    ],
  );
});
