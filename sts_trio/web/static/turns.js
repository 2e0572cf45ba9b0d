// Who speaks when, by loudness alone, and how long the caller waits for answers. Pure: time comes
// in as seconds of one clock, with frames of 20 ms.

// A telephone's noise lies near -58 dBFS, and speech near -22.
const CALLER_AUDIBLE = -40;
const AGENT_AUDIBLE = -45;
// A click is shorter than that.
const ONSET_FRAMES = 3;
// Silence shorter than this is a pause within what somebody says.
const PAUSE = 0.5;
// An answer to what is still being said is none.
const STILL = 0.1;

/** When one voice was audible. */
class Voice {
  last = -Infinity; // the end of the newest audible frame
  began = -Infinity; // of what is or was said last
  #threshold;
  #onset;
  #loud = 0;

  constructor(threshold, onset) {
    this.#threshold = threshold;
    this.#onset = onset;
  }

  /** Whether this frame, which ends at `time`, is the one by which somebody began to speak. */
  hear(loudness, time) {
    this.#loud = loudness >= this.#threshold ? this.#loud + 1 : 0;
    if (this.#loud < this.#onset) return false;
    const begins = time - this.last > PAUSE;
    if (begins) this.began = time - 0.02 * this.#onset;
    this.last = time;
    return begins;
  }

  isSpeaking(time) {
    return time - this.last < STILL;
  }

  interrupt() {
    this.last = -Infinity;
  }
}

export class Turns {
  /** Answers so far: {kind, asked, words, answered}; `words` is null if they came with none. */
  answers = [];
  /** Times the caller spoke over the agent and it fell silent: {began, silent}. */
  bargeIns = [];
  #caller = new Voice(CALLER_AUDIBLE, ONSET_FRAMES);
  #agent = new Voice(AGENT_AUDIBLE, 1);
  #words = null;
  #awaited; // since when, or null

  /** The call began, and the agent is to greet. */
  constructor(time) {
    this.#awaited = time;
  }

  hearCaller(loudness, time) {
    this.#caller.hear(loudness, time);
  }

  /** Returns the answer that begins with this frame, or null. */
  hearAgent(loudness, time) {
    if (!this.#agent.hear(loudness, time)) return null;
    const greets = this.answers.length === 0 && this.#caller.last === -Infinity;
    const asked = greets ? this.#awaited : this.#lastWord(time);
    if (asked === null) return null;
    const words = this.#words !== null && this.#words > asked ? this.#words : null;
    const answer = { kind: greets ? "greeting" : "answer", asked, words, answered: time };
    this.answers.push(answer);
    this.#awaited = time;
    this.#words = null;
    return answer;
  }

  /** The server has the caller's words. */
  hearWords(time) {
    this.#words = time;
  }

  /** The agent was cut off. Returns the barge-in if both were audible just now, or null. */
  clear(time) {
    const both = time - this.#agent.last < PAUSE && time - this.#caller.last < PAUSE;
    const began = Math.max(this.#agent.began, this.#caller.began);
    this.#agent.interrupt();
    if (!both) return null;
    const bargeIn = { began, silent: time };
    this.bargeIns.push(bargeIn);
    return bargeIn;
  }

  /** The end of what the caller said since the last answer; null if that is nothing. */
  #lastWord(time) {
    const said = this.#caller.last > this.#awaited && !this.#caller.isSpeaking(time);
    return said ? this.#caller.last : null;
  }
}

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
