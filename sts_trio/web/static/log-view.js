// The log of the call that is shown, which most people leave folded up.

import { clock, make } from "./elements.js";
import { MOST } from "./log.js";

export class LogView {
  #details;
  #list;
  #log = null;
  #written = 0; // lines that ever stood there

  /** `list` is in `details`, and is written while that is open. */
  constructor(details, list) {
    this.#details = details;
    this.#list = list;
    details.addEventListener("toggle", () => this.update());
  }

  show(log) {
    this.#log = log;
    this.#written = 0;
    this.#list.replaceChildren();
    this.#details.hidden = false;
    this.update();
  }

  update() {
    if (this.#log === null || !this.#details.open) return;
    const { lines, dropped } = this.#log;
    const fresh = lines.slice(Math.max(0, this.#written - dropped));
    this.#written = dropped + lines.length;
    this.#list.append(
      ...fresh.map(({ at, text }) =>
        make("li", {}, make("time", {}, clock(at)), make("code", {}, text)),
      ),
    );
    while (this.#list.childElementCount > MOST) this.#list.firstElementChild.remove();
  }
}
