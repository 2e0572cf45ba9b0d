// How loud both sides of a recording are, point by point, as it is read. Pure.

import { decode } from "./g711.js";

// RIFF's header with the chunk `fact`, as the server writes it: µ-law, 8 kHz, the caller left.
const HEADER = 58;
const RATE = 8000;
const LOUDNESS = Float32Array.from({ length: 256 }, (_, code) => Math.abs(decode(code)));

export class Levels {
  seconds;
  caller;
  agent;
  #at = 0; // bytes read so far
  #size;

  /** `size`: of the whole file, bytes; `points`: how many there are to be of each side. */
  constructor(size, points) {
    this.#size = Math.max(2, size - HEADER);
    this.seconds = this.#size / 2 / RATE;
    this.caller = new Float32Array(points);
    this.agent = new Float32Array(points);
  }

  /** The next bytes of the file. */
  hear(bytes) {
    const points = this.caller.length;
    for (let index = Math.max(0, HEADER - this.#at); index < bytes.length; index += 1) {
      const at = this.#at + index - HEADER;
      const point = Math.min(points - 1, Math.floor((at * points) / this.#size));
      const side = at % 2 === 0 ? this.caller : this.agent;
      const loudness = LOUDNESS[bytes[index]];
      if (loudness > side[point]) side[point] = loudness;
    }
    this.#at += bytes.length;
  }
}
