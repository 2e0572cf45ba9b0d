// What Twilio does with what it is sent: it buffers, plays in order and in real time, sends a mark
// back when all audio before it was played, and all marks when the buffer is cleared. Pure.
// Source: Twilio, "Media Streams: WebSocket messages", read 2026-11-22.

import { SILENCE } from "./g711.js";

// Ten minutes; Twilio drops what is more, with warning 31931.
const CAPACITY = 600 * 8000;

/** All counts are bytes of µ-law. */
export class Playout {
  waiting = 0;
  played = 0;
  dropped = 0;
  #accepted = 0;
  #gone = 0; // played or cleared
  #chunks = [];
  #offset = 0; // played of the first chunk
  #marks = []; // {name, at}: `at` is #accepted when it came

  play(bytes) {
    const room = CAPACITY - this.waiting;
    const taken = bytes.subarray(0, room);
    this.dropped += bytes.length - taken.length;
    if (taken.length === 0) return;
    this.#chunks.push(taken);
    this.#accepted += taken.length;
    this.waiting += taken.length;
  }

  /** Returns the names of marks to be echoed now. */
  mark(name) {
    this.#marks.push({ name, at: this.#accepted });
    return this.#reached();
  }

  /** Empties the buffer; returns the names of all marks that were pending. */
  clear() {
    this.#gone = this.#accepted;
    this.waiting = 0;
    this.#chunks = [];
    this.#offset = 0;
    return this.#reached();
  }

  /** Fills `frame` with what is to be heard next; returns the names of marks to be echoed now. */
  take(frame) {
    let filled = 0;
    while (filled < frame.length && this.#chunks.length > 0) {
      const chunk = this.#chunks[0];
      const part = chunk.subarray(this.#offset, this.#offset + frame.length - filled);
      frame.set(part, filled);
      filled += part.length;
      this.#offset += part.length;
      if (this.#offset === chunk.length) {
        this.#chunks.shift();
        this.#offset = 0;
      }
    }
    frame.fill(SILENCE, filled);
    this.waiting -= filled;
    this.played += filled;
    this.#gone += filled;
    return this.#reached();
  }

  #reached() {
    const names = [];
    while (this.#marks.length > 0 && this.#marks[0].at <= this.#gone) {
      names.push(this.#marks.shift().name);
    }
    return names;
  }
}
