// What is to be seen of a call, beside the phone itself.

import { cutSentences } from "./heard.js";
import { median } from "./turns.js";

export function byId(id) {
  return document.getElementById(id);
}

/** An element of that kind, with text or elements in it. */
export function make(tag, properties = {}, ...content) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...content);
  return element;
}

/** Minutes and seconds. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// --- the transcript -----------------------------------------------------------------------------

const transcript = byId("transcript");
const WHO = { user: "You", assistant: "Agent" };
let unsettled = []; // sentences of the agent's, as elements, that the caller may be hearing yet

export function emptyTranscript() {
  unsettled = [];
  transcript.replaceChildren();
  byId("empty").hidden = true;
}

/** Who goes on speaking goes on in the same line. */
export function writeLine(role, text, seconds) {
  const said = make("span", { className: "said" }, text);
  if (role === "assistant") unsettled.push(said);
  const last = transcript.lastElementChild;
  if (last?.dataset.role === role) {
    append(last, said);
    return;
  }
  const who = make("span", { className: `who ${role === "user" ? "you" : "agent"}` });
  who.textContent = WHO[role] ?? role;
  const line = make("li", {}, make("time", {}, clock(seconds)), who);
  line.dataset.role = role;
  transcript.append(line);
  append(line, said);
}

/** The caller has heard that much of what the agent said, and will hear no more of it. */
export function markHeard(said, heard) {
  const sentences = unsettled.map((element) => element.textContent);
  for (const part of cutSentences(sentences, said, heard)) {
    const element = unsettled.shift();
    if (part.unheard === "") continue;
    const cut = make("s", { title: "You did not hear this" }, part.unheard);
    element.replaceChildren(part.heard, cut);
  }
}

export function writeNote(text, seconds) {
  const line = make("li", {}, make("time", {}, clock(seconds)));
  transcript.append(line);
  append(line, make("span", { className: "note" }, text));
}

function append(line, part) {
  const last = transcript.getBoundingClientRect().bottom;
  line.append(part);
  // Who has scrolled away is reading something else.
  if (last < window.innerHeight) part.scrollIntoView({ block: "nearest" });
}

// --- the waits ----------------------------------------------------------------------------------

// The scale of the bars in seconds, unless somebody waited longer.
const SCALE = 1.5;

const NAMES = { greeting: "Greeting", answer: "Answer" };

const WAITS_HINT = byId("waits-summary").textContent;

/** `turns` is a call's, see turns.js. */
export function showWaits({ answers, bargeIns }) {
  const waits = [
    ...answers.map(({ kind, asked, words, answered }) => ({
      name: NAMES[kind],
      at: answered,
      seconds: answered - asked,
      words: words === null ? 0 : words - asked,
    })),
    ...bargeIns.map(({ began, silent }) => ({
      name: "Barge-in",
      at: silent,
      seconds: silent - began,
      words: 0,
    })),
  ].sort((one, other) => one.at - other.at);
  const longest = Math.max(SCALE, ...waits.map(({ seconds }) => seconds));
  byId("waits").hidden = waits.length === 0;
  byId("waits-key").hidden = waits.length === 0;
  byId("waits").tBodies[0].replaceChildren(...waits.map((wait) => waitRow(wait, longest)));
  const asked = waits.filter(({ name }) => name === NAMES.answer).map(({ seconds }) => seconds);
  const many = asked.length === 1 ? "One answer" : `Median of ${asked.length} answers`;
  byId("waits-summary").textContent =
    asked.length === 0
      ? WAITS_HINT
      : `${many}: ${median(asked).toFixed(2)} s from your last word to the agent’s first sound.`;
}

function waitRow({ name, seconds, words }, longest) {
  const bar = make("div", { className: "bar" });
  const kind = name === "Barge-in" ? "silence" : "sound";
  addPart(bar, "words", words / longest);
  addPart(bar, kind, (seconds - words) / longest);
  if (words > 0) {
    const rest = (seconds - words).toFixed(2);
    const parts = `${words.toFixed(2)} s until your words were in, then ${rest} s`;
    bar.title = parts;
    bar.append(make("span", { className: "unseen" }, parts));
  }
  const head = make("th", { scope: "row" }, name);
  return make("tr", {}, head, make("td", {}, bar), make("td", {}, `${seconds.toFixed(2)} s`));
}

function addPart(bar, className, share) {
  const part = make("span", { className });
  part.style.width = `${100 * share}%`;
  bar.append(part);
}

// --- the line -----------------------------------------------------------------------------------

const BYTES = 8000; // a second of µ-law

export function showFigures(figures) {
  const seconds = (bytes) => `${(bytes / BYTES).toFixed(1)} s`;
  const rows = [
    ["sent", "Sent", `${(figures.sent / 50).toFixed(1)} s`],
    ["received", "Received", seconds(figures.received)],
    ["played", "Heard", seconds(figures.played)],
    ["waiting", "Waiting to be heard", seconds(figures.waiting)],
    ["marks", "Marks echoed", figures.marks],
    ["clears", "Clears", figures.clears],
  ];
  const wrongs = [
    [figures.skipped, `${figures.skipped} frames not sent: the connection is too slow.`],
    [figures.dropped, `${seconds(figures.dropped)} dropped: Twilio holds ten minutes.`],
    [figures.refused, `Twilio would refuse ${figures.refused} messages: ${figures.firstRefusal}`],
  ];
  byId("line").replaceChildren(
    ...rows.flatMap(([id, name, value]) => [
      make("dt", {}, name),
      make("dd", { id: `line-${id}` }, String(value)),
    ]),
    ...wrongs
      .filter(([count]) => count > 0)
      .map(([, text]) => make("dd", { className: "wrong" }, text)),
  );
}

// --- the server ---------------------------------------------------------------------------------

const AGENTS = {
  "offline ears": "The offline agent answers",
  "offline scripted": "The offline agent answers by script, whatever you say",
  deepgram: "Deepgram answers",
};
const STATUS = { ready: "", full: "All lines are busy", draining: "Shutting down" };

export function showServer(state) {
  const live = ["no calls", "one call"][state.live] ?? `${state.live} calls`;
  const parts = [AGENTS[state.agent] ?? state.agent, STATUS[state.status] ?? state.status, live];
  byId("server").textContent = parts.filter(Boolean).join(" · ");
  byId("warnings").replaceChildren(...state.warnings.map((text) => make("li", {}, text)));
  byId("warnings").hidden = state.warnings.length === 0;
}

/** `calls` are as the server listed them, so many seconds `ago`. */
export function showCalls(calls, ago, ours) {
  const rows = calls.map((call) => {
    const name = call.call_sid === ours ? "This one" : call.call_sid.slice(0, 10) || "Connecting";
    const phase = call.phase.replace("_", " ");
    const stands = `${phase}, ${clock(call.seconds + ago)}`;
    return make("li", {}, make("span", {}, name), make("span", {}, stands));
  });
  byId("calls").replaceChildren(...(rows.length > 0 ? rows : [make("li", {}, "None.")]));
}
