// The last half minute of both voices: the caller's above the line, the agent's below.

const SPAN = 30; // seconds
const BIN = 0.1; // seconds in one stroke
const BINS = SPAN / BIN;
// What is quieter than this is drawn as nothing.
export const QUIETEST = -60;

/** From 0 for the quietest to 1 for full scale. */
export function share(loudness) {
  return Math.min(1, Math.max(0, 1 - loudness / QUIETEST));
}

export class Ribbon {
  #canvas;
  #bins = new Map(); // {number of the bin: [caller, agent]}, each a share
  #newest = 0;

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  restart() {
    this.#bins.clear();
    this.#newest = 0;
  }

  /** `voice` is 0 for the caller and 1 for the agent; `time` is seconds since the call began. */
  add(voice, loudness, time) {
    const number = Math.floor(time / BIN);
    const bin = this.#bins.get(number) ?? [0, 0];
    bin[voice] = Math.max(bin[voice], share(loudness));
    this.#bins.set(number, bin);
    this.#newest = Math.max(this.#newest, number);
    this.#bins.delete(number - BINS - 1);
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = window.devicePixelRatio;
    this.#canvas.width = width * scale;
    this.#canvas.height = height * scale;
    const pen = this.#canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(this.#canvas);
    const colours = ["--you", "--agent"].map((name) => style.getPropertyValue(name));
    const middle = height / 2;
    pen.fillStyle = style.getPropertyValue("--line");
    pen.fillRect(0, middle - 0.5, width, 1);
    const step = width / BINS;
    for (const [number, bin] of this.#bins) {
      const x = width - (this.#newest - number + 1) * step;
      bin.forEach((level, voice) => {
        // Speech lies in the upper half of the scale.
        const length = Math.max(0, level - 0.2) * 1.25 * (middle - 2);
        pen.fillStyle = colours[voice];
        pen.fillRect(x, voice === 0 ? middle - 1.5 - length : middle + 1.5, step * 0.7, length);
      });
    }
  }
}
