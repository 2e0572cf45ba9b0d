// The page of past calls: a list that is searched, and the one that is chosen, which stands in the
// page's address behind the #.

import { CallView } from "./call-view.js";
import { byId, clock, make } from "./elements.js";
import { Player } from "./player.js";
import { RecordedConversation } from "./record.js";
import { pastCalls, record } from "./server.js";
import { Trouble, callName, endingNames, stateInWords } from "./words.js";

// Milliseconds without a key until what was typed is asked for.
const TYPING = 300;
// ... and until a call that is not over is looked at again.
const SOON = 500;
const LATER = 15_000;
// ... and until a server that did not answer, or not as it should, is asked again.
const TROUBLED = 5000;
const RECORDING = ["Recording, WAV", "recording.wav", ".wav"];
const FILES = [
  ["Transcript, text", "transcript.txt", ".txt"],
  ["Transcript, JSON", "transcript.json", "-transcript.json"],
  ["Captions, WebVTT", "transcript.vtt", ".vtt"],
  ["Record, JSON", "", ".json"],
];

const view = new CallView();
const player = new Player(view);
let calls = []; // as far as they are listed
let after = null; // where the next ones begin
let typing = null; // the timer until the list is asked for
let looking = null; // ... and until the chosen call is
let waited = { callSid: "", pause: SOON };
let asked = 0; // only the newest question's answer counts

// What is wrong with the list, and with the call that is chosen.
const troubles = { list: null, call: null };

function complain(about, trouble) {
  troubles[about] = trouble;
  const told = [...new Set(Object.values(troubles))].filter(Boolean);
  byId("trouble").hidden = told.length === 0;
  byId("trouble").replaceChildren(...told.map((text) => make("p", {}, text)));
}

/** What `question` comes to; undefined if there is trouble, which is told. */
async function answer(about, question) {
  try {
    const answered = await question;
    complain(about, null);
    return answered;
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    complain(about, error.message);
    return undefined;
  }
}

// --- the list -----------------------------------------------------------------------------------

for (const [ending, words] of endingNames()) {
  byId("ending").append(make("option", { value: ending }, words));
}

/** What the filters ask for, as the server wants it. */
function wanted() {
  const query = {};
  for (const name of ["number", "agent", "ending", "words"]) {
    const value = byId(name).value.trim();
    if (value !== "") query[name] = value;
  }
  if (byId("day").value !== "") {
    const day = new Date(`${byId("day").value}T00:00`);
    query.since = day.getTime() / 1000;
    day.setDate(day.getDate() + 1);
    query.until = day.getTime() / 1000;
  }
  return query;
}

async function list({ isMore = false } = {}) {
  clearTimeout(typing);
  asked += 1;
  const mine = asked;
  const query = isMore ? { ...wanted(), after } : wanted();
  const page = await answer("list", pastCalls(query));
  if (mine !== asked) return;
  if (page === undefined) {
    byId("found").textContent = "Not known at present.";
    typing = setTimeout(list, TROUBLED);
    return;
  }
  calls = isMore ? [...calls, ...page.calls] : page.calls;
  after = page.after;
  showList(isMore ? calls.length - page.calls.length : 0);
}

function showList(from) {
  const rows = calls.slice(from).map(row);
  if (from === 0) byId("calls").replaceChildren(...rows);
  else byId("calls").append(...rows);
  byId("more").hidden = after === null;
  const many = calls.length === 1 ? "One call" : `${calls.length} calls`;
  byId("found").textContent = after === null ? `${many}.` : `The newest ${calls.length} calls.`;
  showChosen();
}

function row(call) {
  const at = new Date(1000 * call.created_at);
  const when = at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const long = call.summary?.seconds == null ? "" : clock(call.summary.seconds);
  const stands = [when, long, call.agent].filter(Boolean).join(" · ");
  const isFault = call.verdict !== null && call.verdict !== "success";
  const link = make(
    "a",
    { href: `#${encodeURIComponent(call.call_sid)}` },
    make("span", { className: "name", title: call.call_sid }, callName(call)),
    make("span", { className: "stands", title: stands }, stands),
    make("span", { className: isFault ? "ended wrong" : "ended" }, stateInWords(call)),
  );
  link.dataset.callSid = call.call_sid;
  return make("li", {}, link);
}

function showChosen() {
  const chosen = chosenSid();
  for (const link of byId("calls").querySelectorAll("a")) {
    link.ariaCurrent = String(link.dataset.callSid === chosen);
  }
}

byId("filters").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(list, TYPING);
});
byId("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  list();
});
byId("filters").addEventListener("reset", () => setTimeout(list));
byId("more").addEventListener("click", async () => {
  const known = calls.length;
  await list({ isMore: true });
  byId("calls").children[known]?.querySelector("a").focus();
});
// Up and down the list, as in any list.
byId("calls").addEventListener("keydown", (event) => {
  const steps = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" };
  const step = steps[event.key];
  if (step === undefined) return;
  const next = event.target.closest("li")?.[step]?.querySelector("a");
  if (next) {
    event.preventDefault();
    next.focus();
  }
});

// --- the one that is chosen ---------------------------------------------------------------------

function chosenSid() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ""; // somebody's own
  }
}

/** Shows the chosen call; one that is not over yet is looked at again. */
async function open() {
  clearTimeout(looking);
  const callSid = chosenSid();
  byId("past").dataset.open = String(callSid !== "");
  showChosen();
  complain("call", null);
  if (callSid === "" || (callSid === view.shown?.callSid && view.shown.isOver)) return;
  const told = await answer("call", record(callSid));
  if (callSid !== chosenSid()) return;
  if (told === null) {
    complain("call", "No such call is kept: it may have been deleted.");
  } else if (told !== undefined && !("call" in told)) {
    complain("call", "This call is live: look at it on the page of live calls.");
    lookAgain(callSid);
  } else if (told !== undefined) {
    show(new RecordedConversation(told));
    if (!view.shown.isOver) lookAgain(callSid);
  } else if (view.shown?.callSid !== callSid) {
    lookAgain(callSid);
  }
}

/** As long as it is the one that is chosen: at first soon, as its end may not be written yet. */
function lookAgain(callSid) {
  if (waited.callSid !== callSid) waited = { callSid, pause: SOON };
  looking = setTimeout(open, waited.pause);
  waited.pause = Math.min(2 * waited.pause, LATER);
}

function show(shown) {
  const { callSid, record: kept } = shown;
  const isNews =
    view.shown?.callSid !== callSid || view.shown.record.events.length !== kept.events.length;
  if (!isNews && !shown.isOver) return; // who reads it is not to be sent to its beginning
  view.show(shown);
  const isRecorded = player.show(shown, `calls/${encodeURIComponent(callSid)}/recording.wav`);
  showFiles(callSid, isRecorded ? [RECORDING, ...FILES] : FILES);
}

function showFiles(callSid, files) {
  const path = `calls/${encodeURIComponent(callSid)}`;
  byId("files-section").hidden = false;
  byId("files").replaceChildren(
    ...files.map(([words, file, ending]) =>
      make(
        "li",
        {},
        make(
          "a",
          { href: file === "" ? path : `${path}/${file}`, download: `${callSid}${ending}` },
          words,
        ),
      ),
    ),
  );
}

window.addEventListener("hashchange", open);
list();
open();
