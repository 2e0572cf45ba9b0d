// What this page knows of the server: whether it answers, how it stands, its calls and their events.

import { here } from "./address.js";
import { follow } from "./events.js";
import { DEAF, NOBODY, NOT_KEPT, STRANGER, Trouble, serverTrouble } from "./words.js";

// Milliseconds. Several things that happen at once are asked about once ...
const SETTLE = 150;
// ... and where much happens, once in a while.
const PAUSE = 1000;
// Whoever does not answer in that time, does not answer.
const PATIENCE = 4000;
// It is asked by itself so often, as a connection that is lost without a word tells nobody ...
const BEAT = 15_000;
const CALL_BEAT = 4000; // ... while somebody is on the line
// ... and so often while somebody waits for it to come back.
const TROUBLED_BEAT = 3000;
// Events that cannot be had for so long are a trouble: an event source comes back after two seconds.
const DEAF_FOR = 5000;
// The state of the server is another after these.
const ASK_AFTER = new Set(["call.started", "agent.ready", "call.ended"]);

/**
 * Tells its `listener`, each by a method of that name:
 *
 * knows(state)         what /state tells
 * lists(calls, elsewhere) the live calls, and those of other processes, as /calls has them
 * happened(event)      {number, call_sid, at, event, fields}
 * missed()             events were lost: what is to be known of a call has to be asked for
 * troubled(trouble)    why it cannot be talked with, in words; null when it can
 */
export class Server {
  isInCall = false;
  #listener;
  #asking = null; // the timer
  #askedAt = -Infinity;
  #isAsking = false;
  #deafSince = null;
  #trouble = null;

  constructor(listener) {
    this.#listener = listener;
  }

  start() {
    follow({
      happened: (event) => {
        if (ASK_AFTER.has(event.event)) this.#askSoon();
        this.#listener.happened(event);
      },
      missed: () => this.#listener.missed(),
      following: (isSo) => this.#follow(isSo),
    });
    setInterval(() => this.#tick(), 1000);
  }

  /** How many live calls there are, and which, will be told. */
  #askSoon() {
    if (this.#asking !== null) return;
    const wait = Math.max(SETTLE, this.#askedAt + PAUSE - performance.now());
    this.#asking = setTimeout(() => {
      this.#asking = null;
      this.ask();
    }, wait);
  }

  /** Asks how it stands. Returns whether it answered. */
  async ask({ withCalls = true } = {}) {
    this.#askedAt = performance.now();
    this.#isAsking = true;
    try {
      const [state, list] = await Promise.all([ask("state"), withCalls ? ask("calls") : null]);
      this.#listener.knows(state);
      if (list !== null) this.#listener.lists(list.calls, list.elsewhere ?? []);
      this.#tell(this.#isDeaf ? DEAF : null);
      return true;
    } catch (error) {
      this.#tell(error instanceof Trouble ? error.message : NOBODY);
      return false;
    } finally {
      this.#isAsking = false;
    }
  }

  /** What happened in a call behind that event, and its figures; of one that is over, its record,
   * null if none is kept. */
  call(callSid, after) {
    return ask(`calls/${encodeURIComponent(callSid)}?after=${after}`, { missing: null });
  }

  /** Ends a live call, whoever placed it. Throws a Trouble. */
  async hangUp(callSid) {
    const path = `calls/${encodeURIComponent(callSid)}/hang-up`;
    await ask(path, { method: "POST", missing: null });
  }

  get #isDeaf() {
    return this.#deafSince !== null && performance.now() - this.#deafSince > DEAF_FOR;
  }

  #tick() {
    if (this.#isAsking) return;
    const isNews = this.#isDeaf && this.#trouble === null;
    let pause = this.isInCall ? CALL_BEAT : BEAT;
    if (this.#trouble !== null) pause = TROUBLED_BEAT;
    if (isNews || performance.now() - this.#askedAt > pause) {
      this.ask({ withCalls: this.#trouble !== null });
    }
  }

  #follow(isSo) {
    if (isSo) this.#deafSince = null;
    else this.#deafSince ??= performance.now();
    this.ask();
    if (isSo) this.#listener.missed();
  }

  #tell(trouble) {
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    this.#listener.troubled(trouble);
  }
}

/**
 * A page of the past calls that `query` asks for, the newest first: {calls, after}, as /calls?ended=1
 * tells them. Throws a Trouble.
 */
export async function pastCalls(query) {
  const page = await ask(`calls?${new URLSearchParams({ ended: 1, ...query })}`, { missing: null });
  if (page === null) throw new Trouble(NOT_KEPT);
  return page;
}

/** What is kept of a call, or told of a live one; null if nothing is. Throws a Trouble. */
export function record(callSid) {
  return ask(`calls/${encodeURIComponent(callSid)}`, { missing: null });
}

/** What is to be had at that path, as JSON; `missing` if there is no such thing. */
async function ask(path, { method = "GET", missing } = {}) {
  let response;
  try {
    response = await fetch(here(path), { method, signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    throw new Trouble(NOBODY);
  }
  if (response.status === 404 && missing !== undefined) return missing;
  if (response.status === 401 || response.status === 403) throw new Trouble(STRANGER);
  if (response.status === 400) throw new Trouble((await response.json()).error);
  if (!response.ok) throw new Trouble(serverTrouble(response.status));
  return response.json();
}
