// What was recorded of a call, to be heard: its words run along, its timeline shows where it is, and
// has both voices as they sound.

import { byId } from "./elements.js";
import { Levels } from "./levels.js";

// Bytes: twenty minutes. Of a longer one no waveforms are drawn, which would take all of it.
const MOST = 20_000_000;
const BYTES = 16_000; // a second of both sides
const POINTS = 600;

export class Player {
  #view;
  #element = byId("player");
  #offset = 0; // when in the call the recording begins
  #drawing = null;

  /** `view` shows the call (call-view.js). */
  constructor(view) {
    this.#view = view;
    this.#element.addEventListener("timeupdate", () => this.#tell());
    this.#element.addEventListener("seeking", () => this.#tell());
    byId("timeline").addEventListener("click", (event) => this.#seek(event));
  }

  /** `conversation` is a record's (record.js), `url` where its recording is. */
  show({ record: { call, recordings = [] } }, url) {
    const found = recordings.filter(({ uri, deleted_at: gone }) => uri !== "" && gone === null);
    this.#drawing?.abort();
    this.#drawing = new AbortController();
    this.#element.pause();
    this.#element.hidden = found.length === 0;
    if (found.length === 0) {
      this.#element.removeAttribute("src");
      return false;
    }
    // Of a call with several streams all are one, which begins with the first.
    this.#offset = found[0].began_at - (call.answered_at ?? call.created_at);
    this.#element.src = url;
    const last = found.at(-1);
    const seconds = last.began_at + last.seconds - found[0].began_at;
    if (seconds * BYTES <= MOST) this.#draw(url, this.#drawing.signal);
    return true;
  }

  async #draw(url, signal) {
    try {
      const response = await fetch(url, { signal });
      if (!response.ok) return; // to be heard it is not either, which the player tells
      const levels = new Levels(Number(response.headers.get("Content-Length")), POINTS);
      const reader = response.body.getReader();
      for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
        levels.hear(value);
      }
      this.#view.drawWaves(levels, this.#offset);
    } catch (error) {
      if (error.name !== "AbortError" && error.name !== "TypeError") throw error;
    }
  }

  #tell() {
    this.#view.point(this.#element.currentTime + this.#offset);
  }

  #seek({ clientX, currentTarget }) {
    if (this.#element.hidden) return;
    const { left, width } = currentTarget.getBoundingClientRect();
    const at = ((clientX - left) / width) * this.#view.length;
    this.#element.currentTime = Math.max(0, at - this.#offset);
    this.#element.play();
  }
}
