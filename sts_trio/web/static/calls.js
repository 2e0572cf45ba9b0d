// The list of calls: the one of this page, the one that is open, and all that are live. A row stays
// the same element as long as its call is listed, so the focus stays where it is.

import { clock, make } from "./elements.js";
import { callName, phaseInWords } from "./words.js";

export class CallList {
  #list;
  #open;
  #rows = new Map(); // {call_sid: row}

  /** `open(callSid)` is called for the one that somebody chooses. */
  constructor(list, open) {
    this.#list = list;
    this.#open = open;
  }

  /**
   * `calls` are {callSid, name, stands, isElsewhere?}, in order; `shown` is the SID of the one that
   * is open. One that is elsewhere cannot be opened here.
   */
  show(calls, shown) {
    const rows = new Map();
    calls.forEach(({ callSid, name, stands, isElsewhere = false }, index) => {
      const row = this.#rows.get(callSid) ?? this.#make(callSid);
      rows.set(callSid, row);
      write(row.name, name);
      write(row.stands, stands);
      if (row.button.disabled !== isElsewhere) row.button.disabled = isElsewhere;
      row.button.ariaCurrent = String(callSid === shown);
      const there = this.#list.children[index];
      if (there !== row.item) this.#list.insertBefore(row.item, there ?? null);
    });
    for (const [callSid, { item }] of this.#rows) if (!rows.has(callSid)) item.remove();
    this.#rows = rows;
  }

  #make(callSid) {
    const name = make("span", { className: "name" });
    const stands = make("span", { className: "stands" });
    const button = make("button", { type: "button" }, name, stands);
    button.addEventListener("click", () => this.#open(callSid));
    return { item: make("li", {}, button), button, name, stands };
  }
}

/** What to list: `live` as /calls has them, so many seconds `ago`. */
export function rowsOf(live, ago, ours, opened) {
  const rows = [];
  const listed = new Set();
  for (const conversation of [ours, opened]) {
    if (conversation === null || listed.has(conversation.callSid)) continue;
    const facts = live.find(({ call_sid: callSid }) => callSid === conversation.callSid);
    // As long as it is live, the one that is open keeps its place among the others.
    if (!conversation.isOurs && !conversation.isOver && facts !== undefined) continue;
    listed.add(conversation.callSid);
    const name = conversation.isOurs ? "This one" : nameOf(conversation);
    rows.push({ callSid: conversation.callSid, name, stands: standing(conversation, facts, ago) });
  }
  for (const facts of live) {
    // One that has not begun has no SID, and there is nothing to see of it.
    if (facts.call_sid === "" || listed.has(facts.call_sid)) continue;
    listed.add(facts.call_sid);
    rows.push({ callSid: facts.call_sid, name: callName(facts), stands: now(facts, ago) });
  }
  return rows;
}

/** The same of calls of other processes, as /calls has them: each says whose it is. */
export function rowsElsewhere(calls, ago) {
  return calls.map((call) => ({
    callSid: call.call_sid,
    name: callName(call),
    stands: `${call.is_alive ? "at" : "was at"} ${call.process || "another process"}, ${clock(call.seconds + ago)}`,
    isElsewhere: true,
  }));
}

function nameOf({ facts, callSid }) {
  return facts === null ? callSid : callName(facts);
}

function standing({ isOver }, facts, ago) {
  if (isOver) return "over";
  return facts === undefined ? "connecting" : now(facts, ago);
}

function now({ phase, seconds }, ago) {
  return `${phaseInWords(phase)}, ${clock(seconds + ago)}`;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = element.title = text;
}
