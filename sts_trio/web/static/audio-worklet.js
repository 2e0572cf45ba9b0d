// The two ends of the phone that run in the audio thread: the microphone, as 20 ms frames of µ-law,
// and the earpiece, which is Twilio's playout buffer.

import { RATE, SILENCE, decode, encode, loudness } from "./g711.js";
import { Playout } from "./playout.js";
import { Resampler } from "./resampler.js";

const FRAME = RATE / 50;
// What the earpiece takes from the buffer at a time: 5 ms, so that a clear is heard at once.
const STEP = FRAME / 4;

/** Posts {frame, loudness, time} fifty times a second. */
class Microphone extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, RATE);
  #frame = new Uint8Array(FRAME);
  #filled = 0;

  process([input], [[output]]) {
    for (const sample of this.#resampler.push(mix(input, output.length))) {
      this.#frame[this.#filled] = encode(sample);
      this.#filled += 1;
      if (this.#filled === FRAME) {
        this.port.postMessage({
          frame: this.#frame,
          loudness: loudness(this.#frame),
          time: currentTime,
        });
        this.#frame = new Uint8Array(FRAME);
        this.#filled = 0;
      }
    }
    return true;
  }
}

function mix(channels, length) {
  if (channels.length === 0) return new Float32Array(length); // no microphone, for the moment
  if (channels.length === 1) return channels[0];
  return channels[0].map(
    (_, index) => channels.reduce((sum, channel) => sum + channel[index], 0) / channels.length,
  );
}

/**
 * Takes {play: bytes}, {mark: name} and {clear: true}. Posts {marks: names} to be echoed,
 * {cleared: time}, and {loudness, time, waiting, played, dropped} fifty times a second.
 */
class Earpiece extends AudioWorkletProcessor {
  #playout = new Playout();
  #resampler = new Resampler(RATE, sampleRate);
  #ready = new Float32Array(0); // to be heard next, at the rate of the output
  #step = new Uint8Array(STEP);
  #frame = new Uint8Array(FRAME).fill(SILENCE);
  #filled = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => {
      if (data.play !== undefined) this.#playout.play(data.play);
      else if (data.mark !== undefined) this.#echo(this.#playout.mark(data.mark));
      else if (data.clear) this.#clear();
    };
  }

  #clear() {
    this.#echo(this.#playout.clear());
    this.#ready = new Float32Array(0);
    this.#frame.fill(SILENCE);
    this.port.postMessage({ cleared: currentTime });
  }

  process(_, [[output]]) {
    while (this.#ready.length < output.length) this.#prepare();
    output.set(this.#ready.subarray(0, output.length));
    this.#ready = this.#ready.slice(output.length);
    return true;
  }

  #prepare() {
    this.#echo(this.#playout.take(this.#step));
    const more = this.#resampler.push(Float32Array.from(this.#step, decode));
    const joined = new Float32Array(this.#ready.length + more.length);
    joined.set(this.#ready);
    joined.set(more, this.#ready.length);
    this.#ready = joined;
    this.#frame.set(this.#step, this.#filled);
    this.#filled = (this.#filled + STEP) % FRAME;
    if (this.#filled === 0) this.#report();
  }

  #report() {
    const { waiting, played, dropped } = this.#playout;
    const heard = loudness(this.#frame);
    this.port.postMessage({ loudness: heard, time: currentTime, waiting, played, dropped });
  }

  #echo(names) {
    if (names.length > 0) this.port.postMessage({ marks: names });
  }
}

registerProcessor("microphone", Microphone);
registerProcessor("earpiece", Earpiece);
