// One call as this page knows it: what happened in it, and what there is to say of it in figures.
// Pure but for the question that it asks.

import { Log } from "./log.js";
import { RecordedConversation } from "./record.js";
import { Spans } from "./spans.js";
import { Story } from "./story.js";

/**
 * Whatever has these can be shown (call-view.js), be its call live or over (record.js):
 *
 * isOurs   whether it was placed from this page
 * story    what happened (story.js)
 * facts    as /calls lists the call: who, for how long, and its statistics; null if nobody told
 * spans    who spoke when (spans.js)
 * turns    the waits: {answers, bargeIns} (turns.js), as this page or the server has measured them
 * log      what the log has of it (log.js)
 * line     what this page has counted of a call of its own (call.js), or null
 */
export class Conversation {
  story = new Story();
  facts = null;
  factsAt = 0; // when they were told, by performance.now()
  spans = new Spans();
  log = new Log();
  turns = this.spans.turns;
  line = null;
  #held = null; // events that came while those before them are being asked for

  constructor(callSid, { isOurs = false } = {}) {
    this.callSid = callSid;
    this.isOurs = isOurs;
  }

  get isOver() {
    return this.story.end !== null;
  }

  /** One event of this call, as it happens. Returns the items of the story that have changed. */
  hear(event) {
    if (this.#held === null) return this.#hear(event);
    this.#held.push(event);
    return [];
  }

  #hear(event) {
    // The last figures there are; zeros are left out of them.
    if (event.event === "call.ended" && this.facts !== null) {
      Object.assign(this.facts.statistics, event.fields);
    }
    if (event.number > this.story.last) {
      this.spans.hear(event);
      this.log.hear(event);
    }
    return this.story.hear(event);
  }

  know(facts) {
    this.facts = facts;
    this.factsAt = performance.now();
  }

  /** Seconds since the call began, null if nobody has told. */
  get seconds() {
    if (this.isOver) return this.story.end.at;
    if (this.facts === null) return null;
    return this.facts.seconds + (performance.now() - this.factsAt) / 1000;
  }

  /**
   * Has `ask(after)` tell what happened behind the newest event that is known, as /calls/SID does,
   * and takes it in. Returns the items that have changed; null if all of it is another, as it is
   * over, and its record says so. Throws what `ask` throws.
   */
  async catchUp(ask) {
    if (this.#held !== null) return [];
    this.#held = [];
    const changed = [];
    try {
      const told = await ask(this.story.last);
      const isRecord = told !== null && "call" in told;
      if (isRecord && told.call.ended_at !== null) return this.#replace(new RecordedConversation(told));
      if (told !== null && !isRecord) changed.push(...this.#take(told));
      // It is over, and its last words were missed. One of ours may only be about to begin.
      else if (!this.isOurs) changed.push(...this.story.conclude(this.seconds ?? 0, null));
    } finally {
      const held = this.#held;
      this.#held = null;
      changed.push(...held.flatMap((event) => this.#hear(event)));
    }
    return changed;
  }

  #replace({ story, spans, log, facts }) {
    this.story = story;
    this.spans = spans;
    this.log = log;
    this.know(facts);
    if (!this.isOurs) this.turns = spans.turns;
    return null;
  }

  #take({ is_whole: isWhole, events, ...facts }) {
    this.know(facts);
    const told = events.map(({ number, told }) => ({ number, ...told }));
    const at = told[0]?.at ?? facts.seconds;
    const notes = isWhole ? [] : this.story.note(at, "What happened before this is not kept.");
    return [...notes, ...told.flatMap((event) => this.#hear(event))];
  }
}
