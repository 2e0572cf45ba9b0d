// A story to be read: each of its items a line, in an area that scrolls by itself and follows what
// is new, unless its reader has scrolled away.

import { clock, make } from "./elements.js";
import { endingInWords, functionInWords, keysInWords, noteInWords } from "./words.js";

// Pixels: nearer to the end than a line's height is at the end.
const NEAR = 24;
const WHO = { caller: ["Caller", "You"], agent: ["Agent", "Agent"] };

export class Transcript {
  #area;
  #list;
  #newest; // the button that leads to what is new
  #lines = new Map(); // {item of the story: its line}
  #story = null;
  #isOurs = false;
  #isFollowing = true;

  /** `list` is in `area`, which scrolls. */
  constructor(area, list, newest) {
    this.#area = area;
    this.#list = list;
    this.#newest = newest;
    area.addEventListener("scroll", () => this.#look(), { passive: true });
    newest.addEventListener("click", () => {
      this.#follow();
      area.focus({ preventScroll: true });
    });
    // Of another height, as when the window or the keypad opens, it shows the end all the same.
    const observer = new ResizeObserver(() => this.#isFollowing && this.#follow());
    observer.observe(area);
    observer.observe(list);
  }

  /** From its end, where it goes on, or (`isOver`) from its beginning. */
  show(story, isOurs, isOver) {
    this.#story = story;
    this.#isOurs = isOurs;
    this.#lines.clear();
    this.#list.replaceChildren();
    this.#isFollowing = !isOver;
    this.update(story.items);
    if (isOver) this.#area.scrollTop = 0;
    this.#look();
  }

  /** These items of the story are new, or other than they were. */
  update(items) {
    for (const item of items) this.#write(item);
    if (this.#isFollowing) this.#follow();
    else this.#newest.hidden = false;
  }

  /** Marks what is being said at that second of the call, and keeps it in sight. */
  point(at) {
    let pointed = null;
    for (const [item, line] of this.#lines) {
      if (line.ariaCurrent !== null) line.ariaCurrent = null;
      if (item.kind === "turn" && item.at <= at) pointed = line;
    }
    if (pointed === null) return;
    pointed.ariaCurrent = "true";
    pointed.scrollIntoView({ block: "nearest" });
  }

  #write(item) {
    let line = this.#lines.get(item);
    if (line === undefined) {
      line = make("li", {}, make("time", {}, clock(item.at)));
      line.dataset.kind = item.kind;
      this.#lines.set(item, line);
      const next = this.#story.items[this.#story.items.lastIndexOf(item) + 1];
      this.#list.insertBefore(line, this.#lines.get(next) ?? null);
    }
    if (item.kind === "turn") this.#writeTurn(line, item);
    else this.#writeNote(line, item);
  }

  /** What stands there stays, for who listens to what is new. */
  #writeTurn(line, { who, sentences }) {
    if (line.dataset.who === undefined) {
      line.dataset.who = who;
      const className = `who ${who === "caller" ? "you" : "agent"}`;
      line.append(make("span", { className }, WHO[who][Number(this.#isOurs)]));
    }
    const said = line.querySelectorAll(".said");
    sentences.forEach(({ text, unheard }, index) => {
      const element = said[index] ?? make("span", { className: "said" }, text);
      if (said[index] === undefined) line.append(element);
      if (unheard === (element.dataset.unheard ?? "")) return;
      element.dataset.unheard = unheard;
      const title = this.#isOurs ? "You did not hear this" : "The caller did not hear this";
      const heard = text.slice(0, text.length - unheard.length);
      element.replaceChildren(heard, make("s", { title }, unheard));
    });
  }

  #writeNote(line, item) {
    const words = this.#words(item);
    const note = line.querySelector(".note");
    if (note === null) line.append(make("span", { className: "note" }, words));
    else if (note.textContent !== words) note.textContent = words;
  }

  #words(item) {
    if (item.kind === "function") return functionInWords(item);
    if (item.kind === "keys") return keysInWords(item);
    if (item.kind === "end") {
      return endingInWords(item.fields, { closeCode: item.closeCode, isOurs: this.#isOurs });
    }
    return noteInWords(item, this.#isOurs);
  }

  #look() {
    const { scrollHeight, scrollTop, clientHeight } = this.#area;
    this.#isFollowing = scrollHeight - scrollTop - clientHeight < NEAR;
    this.#newest.hidden = this.#isFollowing;
  }

  #follow() {
    this.#isFollowing = true;
    this.#newest.hidden = true;
    this.#area.scrollTop = this.#area.scrollHeight;
  }
}
