// What the tasks of the call that is shown wait for, or those of the process: asked for as long as
// the section is open, and not otherwise.

import { here } from "./address.js";
import { byId, make } from "./elements.js";

const EVERY = 2000; // milliseconds, from one answer to the next question

export class Tasks {
  #shown;
  #section = byId("tasks-section");
  #isAsking = false;

  /** `shown()` is the SID of the call that is looked at, or undefined. */
  constructor(shown) {
    this.#shown = shown;
    this.#section.addEventListener("toggle", () => this.#ask());
  }

  async #ask() {
    if (this.#isAsking) return;
    this.#isAsking = true;
    while (this.#section.open) {
      try {
        this.#show(await this.#answer());
      } catch {
        byId("tasks-whose").textContent = "The server does not answer.";
      }
      await new Promise((done) => setTimeout(done, EVERY));
    }
    this.#isAsking = false;
  }

  /** Of a call that is over there are no tasks, but there are still those of the process. */
  async #answer() {
    const callSid = this.#shown();
    const path = callSid === undefined ? null : `calls/${encodeURIComponent(callSid)}/tasks`;
    let response = path === null ? null : await fetch(here(path));
    const isOfCall = response !== null && response.ok;
    if (!isOfCall) response = await fetch(here("tasks"));
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const lines = (await response.text()).split("\n").filter(Boolean);
    return { isOfCall, tasks: lines.map((line) => JSON.parse(line)) };
  }

  #show({ isOfCall, tasks }) {
    const whose = isOfCall ? "Of this call" : "Of the server";
    byId("tasks-whose").textContent = `${whose}: ${tasks.length}.`;
    byId("tasks").replaceChildren(...tasks.map((task) => row(task)));
  }
}

function row(task) {
  const call = task.call_sid === null ? "" : ` (call ${task.call_sid})`;
  const item = make("li", {}, make("b", {}, task.name + call), make("span", {}, inWords(task)));
  item.style.marginInlineStart = `${Math.min(task.depth, 12)}ch`;
  item.title = task.where;
  return item;
}

function inWords({ awaits, waits, is_longer: isLonger, deadline }) {
  if (waits === null) return "is running";
  const limit = deadline === null ? "" : `, at most ${Math.max(0, deadline).toFixed(1)} s more`;
  return `${awaits} for ${isLonger ? "over " : ""}${waits.toFixed(1)} s${limit}`;
}
