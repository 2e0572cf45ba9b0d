// What is told of one call beside its words, event by event, as the log has it. Pure.

// What was said stands in the transcript; and these come too often to be read, and are in no record.
const LEFT_OUT = new Set([
  "agent.answer_heard",
  "agent.latency",
  "agent.message",
  "agent.ready",
  "agent.response_due",
  "call.heard",
  "call.silenced",
  "call.transcript",
  "caller.started_speaking",
]);
// Told with the start of the call, and so not again.
const ASIDE = new Set(["call_sid", "from", "to", "direction"]);
// Of a call that lasts for hours the newest are enough.
export const MOST = 500;

export class Log {
  /** {at, text}: the event and its fields. */
  lines = [];
  /** How many were dropped, the oldest. */
  dropped = 0;

  hear({ at, event, fields }) {
    if (LEFT_OUT.has(event)) return;
    const told = Object.keys(fields ?? {})
      .filter((name) => !ASIDE.has(name) || (event === "call.started" && name !== "call_sid"))
      .sort() // a database has no order of its own
      .map((name) => `${name}=${inText(fields[name])}`);
    this.lines.push({ at, text: [event, ...told].join(" ") });
    if (this.lines.length > MOST) {
      this.lines.shift();
      this.dropped += 1;
    }
  }
}

function inText(value) {
  if (typeof value === "string" && /^[\w.:+@/-]+$/.test(value)) return value;
  return JSON.stringify(value);
}
