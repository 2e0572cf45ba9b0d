// Sample rate conversion with a low-pass that is steep enough for the telephone band. Pure.
//
// A polyphase windowed sinc: what lies above half of the lower rate is 70 dB down before it can
// fold back, and all to 3.4 kHz passes at 8 kHz. It delays by HALF_WIDTH samples of the lower rate,
// which is 4 ms.

const HALF_WIDTH = 32;
// Of half the lower rate: where the transition has its middle. It is 540 Hz wide at 8 kHz.
const CUTOFF = 0.93;
// Kaiser's window, for 70 dB.
const BETA = 6.76;

export class Resampler {
  #up; // the rates are as #up to #down
  #down;
  #length; // taps of each phase
  #taps; // #up phases, one after another
  #work; // the newest samples of the past, then the block
  #next = 0; // of the next output, in 1/#up of a sample from the beginning of the block

  constructor(from, to) {
    const divisor = greatestCommonDivisor(from, to);
    this.#up = to / divisor;
    this.#down = from / divisor;
    const half = HALF_WIDTH * Math.max(this.#up, this.#down);
    this.#length = Math.ceil((2 * half + 1) / this.#up);
    this.#taps = makeTaps(half, this.#up, this.#length, Math.max(this.#up, this.#down));
    this.#work = new Float32Array(this.#length - 1 + 128);
  }

  /** The samples that can be told by now, at the new rate. */
  push(block) {
    const past = this.#length - 1;
    if (this.#work.length < past + block.length) {
      const larger = new Float32Array(past + block.length);
      larger.set(this.#work.subarray(0, past));
      this.#work = larger;
    }
    this.#work.set(block, past);
    const end = block.length * this.#up;
    const output = new Float32Array(Math.max(0, Math.ceil((end - this.#next) / this.#down)));
    for (let index = 0; index < output.length; index += 1) {
      output[index] = this.#sampleAt(this.#next);
      this.#next += this.#down;
    }
    this.#next -= end;
    this.#work.copyWithin(0, block.length, block.length + past);
    return output;
  }

  #sampleAt(position) {
    const phase = position % this.#up;
    const newest = this.#length - 1 + (position - phase) / this.#up;
    const first = phase * this.#length;
    let sum = 0;
    for (let tap = 0; tap < this.#length; tap += 1) {
      sum += this.#work[newest - tap] * this.#taps[first + tap];
    }
    return sum;
  }
}

function makeTaps(half, phases, length, rate) {
  const taps = new Float32Array(phases * length);
  for (let phase = 0; phase < phases; phase += 1) {
    let sum = 0;
    for (let tap = 0; tap < length; tap += 1) {
      const offset = phase + tap * phases - half;
      const value =
        Math.abs(offset) > half ? 0 : sinc((CUTOFF * offset) / rate) * kaiser(offset / half);
      taps[phase * length + tap] = value;
      sum += value;
    }
    // Every phase lets a constant through as it is; else the differences would be heard.
    for (let tap = 0; tap < length; tap += 1) taps[phase * length + tap] /= sum;
  }
  return taps;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function kaiser(x) {
  return bessel(BETA * Math.sqrt(Math.max(0, 1 - x * x))) / bessel(BETA);
}

function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-9 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
