// What happened in one call, as a list to be read. Pure: it hears the server's events, and knows
// neither how they come nor how they are shown.

import { cutSentences } from "./heard.js";

// What is told in a line of its own, by the words for it (words.js). Of all else there is too much.
const NOTED = new Set([
  "agent.warned",
  "agent.lost",
  "agent.reconnected",
  "agent.took_over",
  "agent.handed_over",
  "agent.unresponsive",
  "call.answered_by",
  "call.noted",
  "call.status",
  "call.moved",
  "call.crashed",
]);

/**
 * `items` are in the order in which they were told. Each has `kind`, and `at`, seconds since the
 * call began:
 *
 * turn      {who, sentences: [{text, unheard}]}; `who` is caller or agent; `at` is when the caller
 *           began to speak, as far as that is known, else when the words were told; `unheard` is
 *           the end of `text` that the caller will never hear, "" as long as nobody knows of any
 * function  {id, name, outcome, seconds, reason}; `outcome` is null while it runs
 * keys      {count}
 * note      {event, fields}
 * end       {fields, closeCode}; `fields` are those of `call.ended`, null if nobody told them
 */
export class Story {
  items = [];
  last = 0; // the number of the newest event that it has heard
  #unsettled = []; // {turn, sentence, left}: the agent's; what is left of it the caller may hear yet
  #cut = []; // of those that were settled last, the ones that were not heard to their end
  #functions = new Map(); // {id: item}
  #speaksSince = null; // the caller, whose words come later

  get end() {
    const last = this.items.at(-1);
    return last?.kind === "end" ? last : null;
  }

  /**
   * Hears one event: {number, at, event, fields}. What it has heard already, it takes for nothing.
   * Returns the items that are new or other than they were.
   */
  hear({ number, at, event, fields }) {
    if (number <= this.last) return [];
    this.last = number;
    switch (event) {
      case "call.transcript":
        return [this.#say(at, fields)];
      case "call.heard":
        return this.#settle(fields.said, fields.heard);
      case "caller.started_speaking":
        this.#speaksSince = at;
        return [];
      case "call.false_interruption":
        return [...this.#resume(), this.#add("note", at, { event, fields })];
      case "call.barge_in":
        this.#speaksSince = at;
        return fields.cut > 0 ? [this.#add("note", at, { event, fields })] : [];
      case "caller.dtmf":
        return [this.#press(at)];
      case "function.called":
        return [this.#begin(at, fields)];
      case "function.run_by_agent":
        return [this.#finish(at, event, { ...fields, outcome: "done" })];
      case "function.finished":
      case "function.failed":
      case "function.refused":
        return [this.#finish(at, event, fields)];
      case "call.ended":
        return this.conclude(at, fields);
      default:
        return NOTED.has(event) ? [this.#add("note", at, { event, fields })] : [];
    }
  }

  /** Something that no event tells of. */
  note(at, text) {
    return [this.#add("note", at, { event: null, fields: { text } })];
  }

  /** The call is over. `fields` are those of `call.ended`, null if the server did not tell. */
  conclude(at, fields, closeCode = null) {
    if (this.end === null) return [this.#add("end", at, { fields, closeCode })];
    if (this.end.fields !== null || fields === null) return [];
    this.end.fields = fields;
    return [this.end];
  }

  #add(kind, at, rest) {
    const item = { kind, at, ...rest };
    // What comes behind the end was under way before it.
    if (this.end === null) this.items.push(item);
    else this.items.splice(-1, 0, item);
    return item;
  }

  /** The item that is the newest but for the end. */
  get #newest() {
    return this.items.at(this.end === null ? -1 : -2);
  }

  /** Who goes on speaking goes on in the same turn. */
  #say(at, { role, text, began = null }) {
    const who = role === "user" ? "caller" : "agent";
    const sentence = { text, unheard: "" };
    const newest = this.#newest;
    const goesOn = newest?.kind === "turn" && newest.who === who;
    const since = who === "caller" ? (began ?? this.#speaksSince ?? at) : at;
    const turn = goesOn ? newest : this.#add("turn", since, { who, sentences: [] });
    if (who === "caller") this.#speaksSince = null;
    turn.sentences.push(sentence);
    if (who === "agent") this.#unsettled.push({ turn, sentence, left: text });
    return turn;
  }

  /** The caller has heard that much of what the agent said, and will hear no more of it. */
  #settle(said, heard) {
    const texts = this.#unsettled.map(({ left }) => left);
    this.#cut = [];
    for (const { unheard } of cutSentences(texts, said, heard)) {
      const { turn, sentence } = this.#unsettled.shift();
      if (unheard === "") continue;
      sentence.unheard = unheard;
      this.#cut.push({ turn, sentence, left: unheard });
    }
    return turnsOf(this.#cut);
  }

  /** But a noise has cut the agent off: the caller hears the rest of it now. */
  #resume() {
    const resumed = this.#cut;
    for (const { sentence } of resumed) sentence.unheard = "";
    this.#unsettled.unshift(...resumed);
    this.#cut = [];
    return turnsOf(resumed);
  }

  #press(at) {
    const newest = this.#newest;
    const keys = newest?.kind === "keys" ? newest : this.#add("keys", at, { count: 0 });
    keys.count += 1;
    return keys;
  }

  #begin(at, { id, name }) {
    const item = this.#add("function", at, { id, name, outcome: null, seconds: null, reason: "" });
    this.#functions.set(id, item);
    return item;
  }

  /** One that was refused has never begun; of one that began before this page came nothing is known. */
  #finish(at, event, fields) {
    const item = this.#functions.get(fields.id) ?? this.#begin(at, fields);
    if (event === "function.refused") item.outcome = "refused";
    item.outcome = fields.outcome ?? item.outcome;
    item.seconds = fields.seconds ?? item.seconds;
    item.reason = fields.reason ?? item.reason;
    return item;
  }
}

function turnsOf(sentences) {
  return [...new Set(sentences.map(({ turn }) => turn))];
}
