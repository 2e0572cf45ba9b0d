// One call as this page knows it: what happened in it, and what there is to say of it in figures.
// Pure but for the question that it asks.

import { Story } from "./story.js";

/**
 * Whatever has these can be shown (call-view.js), be its call live or over:
 *
 * isOurs   whether it was placed from this page
 * story    what happened (story.js)
 * facts    as /calls lists the call: who, for how long, and its statistics; null if nobody told
 * turns    the waits: {answers, bargeIns} (turns.js); null where nobody has measured them
 * line     what this page has counted of a call of its own (call.js), or null
 */
export class Conversation {
  story = new Story();
  facts = null;
  factsAt = 0; // when they were told, by performance.now()
  turns = null;
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
   * and takes it in. Returns the items that have changed. Throws what `ask` throws.
   */
  async catchUp(ask) {
    if (this.#held !== null) return [];
    this.#held = [];
    const changed = [];
    try {
      const told = await ask(this.story.last);
      if (told !== null) changed.push(...this.#take(told));
      // It is over, and its last words were missed. One of ours may only be about to begin.
      else if (!this.isOurs) changed.push(...this.story.conclude(this.seconds ?? 0, null));
    } finally {
      const held = this.#held;
      this.#held = null;
      changed.push(...held.flatMap((event) => this.#hear(event)));
    }
    return changed;
  }

  #take({ is_whole: isWhole, events, ...facts }) {
    this.know(facts);
    const told = events.map(({ number, told }) => ({ number, ...told }));
    const at = told[0]?.at ?? facts.seconds;
    const notes = isWhole ? [] : this.story.note(at, "What happened before this is not kept.");
    return [...notes, ...told.flatMap((event) => this.#hear(event))];
  }
}
