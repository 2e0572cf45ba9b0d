// One call to be looked at, whichever: live or over, placed from this page or by a phone. It shows
// a conversation (conversation.js): what was said and what of it was heard, waits, figures.

import { byId, clock, make } from "./elements.js";
import { LogView } from "./log-view.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";
import { median } from "./turns.js";
import { callName, phaseInWords } from "./words.js";

export class CallView {
  #timeline = new Timeline(byId("timeline"));
  #transcript = new Transcript(byId("area"), byId("transcript"), byId("newest"));
  #log = new LogView(byId("log"), byId("log-lines"));
  shown = null; // the conversation

  show(conversation) {
    this.shown = conversation;
    byId("empty").hidden = true;
    showIfThere("ribbon", conversation.isOurs);
    byId("waits-section").hidden = false;
    const { story, isOurs, isOver } = conversation;
    this.#transcript.show(story, isOurs, isOver && !isOurs);
    this.#log.show(conversation.log);
    this.refresh();
    this.showWaits();
    byId("view").scrollTop = 0; // in a narrow window the list, where it was chosen, is below it
  }

  /** These items of a conversation's story are new, or other than they were; null: all of them. */
  update(conversation, items) {
    if (conversation !== this.shown) return;
    this.#log.update();
    if (items?.length === 0) return;
    if (items === null) {
      this.show(conversation);
      return;
    }
    this.#transcript.update(items);
    if (!conversation.isOurs) this.showWaits();
    if (conversation.isOver) this.refresh();
  }

  /** Whose call it is, how it stands, and its figures: these change by themselves. */
  refresh() {
    const { shown } = this;
    if (shown === null) return;
    byId("whose").textContent = shown.isOurs ? "Your call" : nameOf(shown);
    byId("stands").textContent = standing(shown);
    byId("head").title = `${byId("whose").textContent} ${byId("stands").textContent}`;
    showIfThere("end-call", !shown.isOurs && !shown.isOver && shown.facts !== null);
    this.#timeline.draw(shown.isOurs ? null : shown.spans, shown.seconds ?? 0);
    if (shown.line !== null) showFigures(figuresOfLine(shown.line));
    else showFigures(shown.facts === null ? NO_FIGURES : figuresOfCall(shown.facts.statistics));
  }

  /** Seconds that the timeline has. */
  get length() {
    return this.#timeline.length;
  }

  drawWaves(levels, offset) {
    this.#timeline.drawWaves(levels, offset);
  }

  /** Shows where in the call its recording is, and what is being said there. */
  point(at) {
    this.#timeline.point(at);
    this.#transcript.point(at);
  }

  showWaits() {
    if (this.shown !== null) showWaits(this.shown.turns, this.shown.isOurs);
  }
}

/** Not every page that has a view has it. */
function showIfThere(id, isShown) {
  const element = byId(id);
  if (element !== null) element.hidden = !isShown;
}

function nameOf({ facts, callSid }) {
  return facts === null ? callSid : callName(facts);
}

function standing({ facts, isOurs, isOver, seconds }) {
  const agent = facts?.agent ? `with the agent ${facts.agent}` : "";
  const long = seconds === null ? "" : clock(seconds);
  const phase = isOver ? `over${isOurs || long === "" ? "" : `, after ${long}`}` : "";
  const now = isOver || isOurs || facts === null ? "" : `${phaseInWords(facts.phase)}, ${long}`;
  return [agent, phase, now].filter(Boolean).join(" · ");
}

// --- the waits ----------------------------------------------------------------------------------

// The scale of the bars in seconds, unless somebody waited longer.
const SCALE = 1.5;

const NAMES = { greeting: "Greeting", answer: "Answer" };

/** `turns` is a call's, see turns.js. */
function showWaits({ answers, bargeIns }, isOurs) {
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
  const whose = isOurs ? "your" : "the caller’s";
  const many = asked.length === 1 ? "One answer" : `Median of ${asked.length} answers`;
  byId("waits-summary").textContent =
    asked.length === 0
      ? `From ${whose} last word to the agent’s first sound, turn by turn.`
      : `${many}: ${median(asked).toFixed(2)} s from ${whose} last word to the agent’s first sound.`;
  byId("waits-key").replaceChildren(
    make("span", { className: "words" }, `until ${whose} words were in`),
    make("span", { className: "sound" }, "until the agent’s first sound"),
    make("span", { className: "silence" }, `from ${whose} interruption until its silence`),
  );
}

function waitRow({ name, seconds, words }, longest) {
  const bar = make("div", { className: "bar" });
  const kind = name === "Barge-in" ? "silence" : "sound";
  addPart(bar, "words", words / longest);
  addPart(bar, kind, (seconds - words) / longest);
  if (words > 0) {
    const rest = (seconds - words).toFixed(2);
    const parts = `${words.toFixed(2)} s until the words were in, then ${rest} s`;
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

// --- the figures --------------------------------------------------------------------------------

const BYTES = 8000; // a second of µ-law
const NO_FIGURES = { rows: [], wrongs: [] };

/** Of a record's summary; null where it is not known, or the call is not over. */
function figuresOfRecord({ waits = null, cost = null, lost_rows: lost = 0 }) {
  const rows = [];
  if (waits !== null) {
    rows.push(["wait-95", "95 % of waits within", `${waits.p95.toFixed(2)} s`]);
    rows.push(["wait-worst", "Longest wait", `${waits.worst.toFixed(2)} s`]);
  }
  if (cost !== null) {
    rows.push(["cost", "Cost", `${(cost.agent + cost.phone).toFixed(2)} ${cost.currency}`]);
  }
  return { rows, wrongs: [[lost, `${lost} rows of this record were lost.`]] };
}

const inSeconds = (seconds) => `${seconds.toFixed(1)} s`;

/** Of a call from this page, as the page itself counts them; see call.js. */
function figuresOfLine(figures) {
  const seconds = (bytes) => inSeconds(bytes / BYTES);
  return {
    rows: [
      ["sent", "Sent", inSeconds(figures.sent / 50)],
      ["received", "Received", seconds(figures.received)],
      ["played", "Heard", seconds(figures.played)],
      ["waiting", "Waiting to be heard", seconds(figures.waiting)],
      ["marks", "Marks echoed", figures.marks],
      ["clears", "Clears", figures.clears],
    ],
    wrongs: [
      [figures.skipped, `${figures.skipped} frames not sent: the connection is too slow.`],
      [figures.dropped, `${seconds(figures.dropped)} dropped: Twilio holds ten minutes.`],
      [figures.refused, `Twilio would refuse ${figures.refused} messages: ${figures.firstRefusal}`],
    ],
  };
}

/** Of any call, as the server counts them; what is zero may be left out. */
function figuresOfCall({ violations = {}, ...counts }) {
  const recorded = figuresOfRecord(counts);
  const count = (name) => counts[name] ?? 0;
  const seconds = (name) => inSeconds(count(name));
  const dropped = count("caller_audio_dropped");
  return {
    rows: [
      ["caller", "From the caller", seconds("caller_audio")],
      ["agent", "From the agent", seconds("agent_audio")],
      ["heard", "Heard of it", seconds("heard")],
      ["cut", "Cut off", seconds("cut")],
      ["barge-ins", "Barge-ins", count("barge_ins")],
      ["functions", "Functions", count("functions")],
      ["reconnects", "Agents lost", count("reconnects")],
      ["gap", "Longest without an agent", seconds("longest_gap")],
      ["silence", "Longest silence of the agent’s", seconds("longest_silence")],
      ...recorded.rows,
    ],
    wrongs: [
      [dropped, `${inSeconds(dropped)} of the caller’s audio dropped.`],
      ...Object.entries(violations).map(([what, times]) => [times, `${what} (${times})`]),
      ...recorded.wrongs,
    ],
  };
}

function showFigures({ rows, wrongs }) {
  byId("figures-section").hidden = rows.length === 0;
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
