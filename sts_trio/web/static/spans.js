// Who spoke when in one call, how long the caller waited, and what else took time. Pure: it hears
// the server's events, as a story does (story.js).

/**
 * Seconds since the call began:
 *
 * spoken  {who, from, to, cut}: `cut` is how much longer it would have been, had it been heard
 * waits   {from, to}: the caller waited for the agent
 * marks   {kind, from, to, name}: `kind` is function, loss, barge-in or keys; `to` is null as long
 *         as it lasts
 */
export class Spans {
  spoken = [];
  waits = [];
  marks = [];
  until = 0;
  answers = [];
  bargeIns = [];
  #speaksSince = null; // the caller
  #asked = null; // {at, words}: what the caller said last, as long as it is not answered

  get turns() {
    return { answers: this.answers, bargeIns: this.bargeIns };
  }

  hear({ at, event, fields }) {
    this.until = Math.max(this.until, at);
    switch (event) {
      case "caller.started_speaking":
        this.#speaksSince = at;
        break;
      case "call.barge_in":
        this.#speaksSince = at;
        if (fields.cut > 0) this.marks.push({ kind: "barge-in", from: at, to: at, name: "" });
        break;
      case "call.false_interruption":
        this.#resume();
        break;
      case "call.silenced":
        this.bargeIns.push({ began: at - fields.after, silent: at });
        break;
      case "call.transcript":
        if (fields.role === "user") this.#hearCaller(at, fields);
        break;
      case "call.heard":
        this.#hearAgent(at, fields);
        break;
      case "caller.dtmf":
        this.marks.push({ kind: "keys", from: at, to: at, name: "" });
        break;
      case "function.called":
        this.marks.push({ kind: "function", from: at, to: null, name: fields.name, id: fields.id });
        break;
      case "function.run_by_agent":
        this.marks.push({ kind: "function", from: at, to: at, name: fields.name, id: fields.id });
        break;
      case "function.finished":
        this.#close(at, (mark) => mark.kind === "function" && mark.id === fields.id);
        break;
      case "agent.lost":
        this.marks.push({ kind: "loss", from: at, to: null, name: fields.ending });
        break;
      case "agent.reconnected":
      case "agent.took_over":
        this.#close(at, (mark) => mark.kind === "loss");
        break;
      case "call.ended":
        this.#close(at, () => true);
        break;
      default:
    }
  }

  #hearCaller(at, { until = null, began = null }) {
    const to = until ?? at;
    const from = Math.min(to, began ?? this.#speaksSince ?? to);
    this.spoken.push({ who: "caller", from, to, cut: 0 });
    this.#speaksSince = null;
    this.#asked = { at: to, words: at };
  }

  /** A turn is settled when the last of it that was to be heard has been. */
  #hearAgent(at, { said_seconds: said, heard_seconds: heard, began = null }) {
    const cut = Math.max(0, said - heard);
    if (heard <= 0 && cut <= 0) return;
    const from = began ?? at - heard;
    this.spoken.push({ who: "agent", from, to: from + heard, cut });
    if (heard <= 0) return;
    const asked = this.#asked;
    if (asked !== null && from >= asked.at) {
      this.waits.push({ from: asked.at, to: from });
      const words = Math.min(asked.words, from);
      this.answers.push({ kind: "answer", asked: asked.at, words, answered: from });
    }
    this.#asked = null;
  }

  /** What was cut is spoken from now on, and told by the turn that it ends with. */
  #resume() {
    const last = this.spoken.findLast(({ who }) => who === "agent");
    if (last !== undefined) last.cut = 0;
  }

  #close(at, isOne) {
    for (const mark of this.marks) if (mark.to === null && isOne(mark)) mark.to = at;
  }
}
