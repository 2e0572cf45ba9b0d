// The page: the phone's buttons and meters, and who tells whom.

import { here } from "./address.js";
import { Call } from "./call.js";
import { follow } from "./events.js";
import { QUIETEST, Ribbon, share } from "./ribbon.js";
import {
  byId,
  clock,
  emptyTranscript,
  make,
  markHeard,
  showCalls,
  showFigures,
  showServer,
  showWaits,
  writeLine,
  writeNote,
} from "./view.js";
import { NOBODY, STRANGER, Trouble, endingInWords, whatIsMissing } from "./words.js";

// The server tells how a call ended once nothing is left of it, which takes up to two seconds.
const LAST_WORD = 3000;
// Milliseconds; several things that happen at once are asked about once.
const SETTLE = 150;
// The state of the server is another after these.
const ASK_AFTER = new Set(["call.started", "agent.ready", "call.ended"]);
const KEYS = "123456789*0#";

const ribbon = new Ribbon(byId("ribbon"));
let call = null; // from the press of Call until it is over
let shown = null; // the last call, which the page is about
let began = 0;

function say(status) {
  byId("status").textContent = status;
}

function complain(trouble) {
  byId("trouble").textContent = trouble ?? "";
  byId("trouble").hidden = trouble === null;
}

// --- the phone ----------------------------------------------------------------------------------

async function place() {
  complain(null);
  say("Asking for your microphone …");
  const placed = new Call(listener);
  call = placed;
  shown = { callSid: placed.callSid, closeCode: null, isEnded: false };
  showButtons();
  try {
    await placed.place();
  } catch (error) {
    call = null;
    showButtons();
    say("Nobody is on the line.");
    complain(error instanceof Trouble ? error.message : `No call: ${error.message}`);
  }
}

function showButtons() {
  byId("call").hidden = call !== null;
  byId("hang-up").hidden = call === null;
  // The button that was pressed is gone; the focus goes to the one in its place.
  if (document.activeElement === document.body) byId(call === null ? "call" : "hang-up").focus();
  const isTalking = call !== null && call.turns !== null;
  for (const key of byId("keys").children) key.disabled = !isTalking;
}

const listener = {
  talking() {
    began = call.now;
    say("Connected. The agent is getting ready.");
    emptyTranscript();
    ribbon.restart();
    showWaits(call.turns);
    showButtons();
    requestAnimationFrame(draw);
  },
  caller(loudness, time) {
    ribbon.add(0, loudness, time - began);
    levels.you = loudness;
  },
  agent(loudness, time) {
    ribbon.add(1, loudness, time - began);
    levels.agent = loudness;
  },
  answered() {
    showWaits(call.turns);
  },
  interrupted() {
    showWaits(call.turns);
  },
  over(closeCode) {
    const ended = shown;
    ended.closeCode = closeCode;
    showFigures(call.figures);
    call = null;
    levels.you = levels.agent = -Infinity;
    showLevels();
    tellLevels();
    showButtons();
    // Unless the server's word came first: it may overtake the close of the socket.
    if (!ended.isEnded) say(closeCode === null ? "You hung up." : "The call is over.");
    if (closeCode !== null) setTimeout(() => conclude(ended, null), LAST_WORD);
  },
};

/** Says how the call ended, once. */
function conclude(ended, fields) {
  if (ended.isEnded) return;
  ended.isEnded = true;
  if (ended === shown) say(endingInWords(fields, ended.closeCode));
}

// --- what moves while a call is on --------------------------------------------------------------

const levels = { you: -Infinity, agent: -Infinity };

function draw() {
  if (call === null) return;
  ribbon.draw();
  showLevels();
  byId("clock").textContent = clock(call.now - began);
  requestAnimationFrame(draw);
}

function showLevels() {
  for (const [name, loudness] of Object.entries(levels)) {
    byId(`${name}-meter`).firstElementChild.style.transform = `scaleX(${share(loudness)})`;
  }
}

function tellLevels() {
  for (const [name, loudness] of Object.entries(levels)) {
    byId(`${name}-meter`).ariaValueNow = String(Math.round(Math.max(QUIETEST, loudness)));
  }
}

setInterval(() => {
  if (call === null) return;
  showFigures(call.figures);
  tellLevels();
}, 200);

// --- the keypad ---------------------------------------------------------------------------------

function press(digit) {
  if (call === null || call.turns === null) return;
  call.press(digit);
  byId("pressed").textContent = `Key ${digit} sent`;
}

for (const digit of KEYS) {
  const key = make("button", { type: "button", disabled: true }, digit);
  key.addEventListener("click", () => press(digit));
  if (digit === "*") key.ariaLabel = "Star";
  if (digit === "#") key.ariaLabel = "Hash";
  byId("keys").append(key);
}

document.addEventListener("keydown", (event) => {
  const isPlain = !event.ctrlKey && !event.altKey && !event.metaKey && !event.repeat;
  if (isPlain && event.key.length === 1 && KEYS.includes(event.key)) press(event.key);
});

// --- the server ---------------------------------------------------------------------------------

let asking;
let liveCalls = [];
let askedAt = 0;

function ask() {
  clearTimeout(asking);
  asking = setTimeout(async () => {
    try {
      const [state, { calls }] = await Promise.all([fetchJson("state"), fetchJson("calls")]);
      liveCalls = calls;
      askedAt = performance.now();
      showServer(state);
      showLiveCalls();
    } catch (error) {
      byId("server").textContent = error instanceof Trouble ? error.message : NOBODY;
    }
  }, SETTLE);
}

async function fetchJson(path) {
  const response = await fetch(here(path));
  if (response.status === 401 || response.status === 403) throw new Trouble(STRANGER);
  return response.json();
}

/** Why what happens cannot be followed. */
async function tellLoss() {
  byId("server").textContent = NOBODY;
  try {
    await fetchJson("state");
  } catch (error) {
    if (error instanceof Trouble) byId("server").textContent = error.message;
  }
}

function showLiveCalls() {
  showCalls(liveCalls, (performance.now() - askedAt) / 1000, call?.callSid);
}

setInterval(() => {
  if (liveCalls.length > 0) showLiveCalls();
}, 1000);

function happen({ call_sid, at, event, fields }) {
  if (ASK_AFTER.has(event)) ask();
  if (shown === null || call_sid !== shown.callSid) return;
  if (event === "call.transcript") {
    if (fields.role === "user") call?.turns?.hearWords(call.now);
    writeLine(fields.role, fields.text, at);
  } else if (event === "agent.ready" && call !== null) {
    say("You are talking with the agent.");
  } else if (event === "agent.warned") {
    writeNote(`The agent warns: ${fields.reason}`, at);
  } else if (event === "call.barge_in" && fields.cut > 0) {
    writeNote(`You interrupted: ${fields.cut.toFixed(1)} s of it went unheard.`, at);
  } else if (event === "call.heard") {
    markHeard(fields.said, fields.heard);
  } else if (event === "agent.lost") {
    writeNote("The connection to the agent was lost; another one is opened.", at);
  } else if (event === "agent.reconnected") {
    writeNote(`The agent is back, after ${fields.gap.toFixed(1)} s.`, at);
  } else if (event === "agent.handed_over") {
    writeNote(`The call is handed over to ${fields.to}.`, at);
  } else if (event === "function.called") {
    writeNote(`The agent calls ${fields.name}.`, at);
  } else if (event === "call.ended") {
    conclude(shown, fields);
  }
}

follow({
  happened: happen,
  missed(count) {
    writeNote(`${count} events were missed: this page could not keep up.`, 0);
  },
  following(isSo) {
    if (isSo) ask();
    else tellLoss();
  },
});

// --- the beginning ------------------------------------------------------------------------------

byId("call").addEventListener("click", place);
byId("hang-up").addEventListener("click", () => call?.hangUp());
window.addEventListener("pagehide", () => call?.hangUp());
byId("keypad").open = matchMedia("(min-width: 44rem)").matches;
showFigures(new Call(listener).figures);
const missing = whatIsMissing(window);
if (missing !== null) {
  complain(missing);
  byId("call").disabled = true;
}
