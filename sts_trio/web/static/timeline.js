// The picture of one call: both voices as lanes, what the caller never heard struck out, waits, and
// below them what else took time. It draws spans (spans.js).

import { clock, make } from "./elements.js";

const NAMES = { function: "The agent called", loss: "No agent", "barge-in": "Barge-in", keys: "Keys" };
// A span is seen, and hit by a finger, however long the call is.
const NARROWEST = "3px";

export class Timeline {
  #place;
  #whole = 0;

  constructor(place) {
    this.#place = place;
  }

  /** Seconds from its left to its right. */
  get length() {
    return this.#whole;
  }

  /** `until`: how long the call is, or has lasted so far. `spans` is null where there are none. */
  draw(spans, until) {
    this.#place.hidden = spans === null || until <= 0;
    if (this.#place.hidden) return;
    const whole = Math.max(until, spans.until);
    this.#whole = whole;
    const lane = (className, elements) => make("div", { className: `lane ${className}` }, ...elements);
    const put = (className, from, to, title) => {
      const element = make("span", { className, title });
      element.style.left = `${(100 * from) / whole}%`;
      element.style.width = `max(${NARROWEST}, ${(100 * Math.max(0, to - from)) / whole}%)`;
      return element;
    };
    const said = (who, name) =>
      spans.spoken
        .filter((each) => each.who === who)
        .flatMap(({ from, to, cut }) => [
          put(`voice ${who}`, from, to, `${name}, ${period(from, to)}`),
          ...(cut > 0
            ? [put("cut", to, Math.min(whole, to + cut), `${cut.toFixed(1)} s of it went unheard`)]
            : []),
        ]);
    const waits = spans.waits.map(({ from, to }) =>
      put("wait", from, to, `The caller waited ${(to - from).toFixed(2)} s`),
    );
    const marks = spans.marks.map(({ kind, from, to, name }) =>
      put(`mark ${kind}`, from, to ?? until, `${NAMES[kind]} ${name}, ${period(from, to ?? until)}`),
    );
    this.#place.replaceChildren(
      lane("callers", said("caller", "The caller")),
      lane("agents", [...waits, ...said("agent", "The agent")]),
      lane("marks", marks),
      make("p", { className: "ends" }, make("span", {}, "0:00"), make("span", {}, clock(whole))),
    );
    this.#place.classList.remove("waved");
    this.#place.ariaLabel = inWords(spans, whole);
  }

  /** Has both voices as they sound; `levels` (levels.js) begin at that second of the call. */
  drawWaves(levels, offset) {
    this.#place.classList.add("waved");
    for (const [name, points] of [
      ["callers", levels.caller],
      ["agents", levels.agent],
    ]) {
      const lane = this.#place.querySelector(`.${name}`);
      const wave = make("canvas", { className: "wave", width: 2 * points.length, height: 64 });
      wave.style.left = `${(100 * offset) / this.#whole}%`;
      wave.style.width = `${(100 * levels.seconds) / this.#whole}%`;
      lane.append(wave);
      const pen = wave.getContext("2d");
      pen.fillStyle = getComputedStyle(wave).color;
      points.forEach((loudness, index) => {
        const height = Math.max(1, 64 * Math.min(1, Math.sqrt(loudness)));
        pen.fillRect(2 * index, 32 - height / 2, 2, height);
      });
    }
  }

  /** Shows where in the call its recording is. */
  point(at) {
    const head = this.#place.querySelector(".head-mark") ?? make("span", { className: "head-mark" });
    head.style.left = `${Math.min(100, (100 * Math.max(0, at)) / this.#whole)}%`;
    this.#place.append(head);
  }
}

function period(from, to) {
  return to - from < 0.1 ? `at ${clock(from)}` : `${clock(from)}, for ${(to - from).toFixed(1)} s`;
}

/** For who does not see it. */
function inWords({ spoken, waits, marks }, whole) {
  const count = (kind) => marks.filter((mark) => mark.kind === kind).length;
  const longest = Math.max(0, ...waits.map(({ from, to }) => to - from));
  return (
    `Timeline of ${clock(whole)}: ${spoken.length} turns, ${count("barge-in")} barge-ins, ` +
    `${count("function")} functions, ${count("loss")} losses of the agent; ` +
    `the longest wait was ${longest.toFixed(1)} s`
  );
}
