import assert from "node:assert/strict";
import { test } from "node:test";

import { Log, MOST } from "../../../sts_trio/web/static/log.js";

const texts = (log) => log.lines.map(({ text }) => text);

test("an event is a line, its fields by name", () => {
  const log = new Log();
  log.hear({ at: 1, event: "agent.lost", fields: { ending: "agent_lost", detail: "FIN, at once" } });
  log.hear({ at: 2, event: "call.recording_paused" });
  log.hear({ at: 3, event: "call.ended", fields: { seconds: 3.5, from: "+1", violations: { a: 1 } } });
  assert.deepEqual(texts(log), [
    'agent.lost detail="FIN, at once" ending=agent_lost',
    "call.recording_paused",
    'call.ended seconds=3.5 violations={"a":1}',
  ]);
});

test("who calls whom is told with the start", () => {
  const log = new Log();
  log.hear({ at: 0, event: "call.started", fields: { call_sid: "CA1", to: "+2", from: "+1" } });
  assert.deepEqual(texts(log), ["call.started from=+1 to=+2"]);
});

test("what was said is in the transcript", () => {
  const log = new Log();
  log.hear({ at: 1, event: "call.transcript", fields: { text: "Hello" } });
  assert.deepEqual(texts(log), []);
});

test("of a call without end the newest lines are kept", () => {
  const log = new Log();
  for (let at = 0; at < MOST + 3; at += 1) log.hear({ at, event: "caller.dtmf", fields: {} });
  assert.deepEqual([log.lines.length, log.lines[0].at, log.dropped], [MOST, 3, 3]);
});
