// The page: the phone's buttons and meters, and who tells whom.

import { CallList, rowsElsewhere, rowsOf } from "./calls.js";
import { Call } from "./call.js";
import { CallView } from "./call-view.js";
import { Conversation } from "./conversation.js";
import { byId, clock, disable, isDisabled, make } from "./elements.js";
import { QUIETEST, Ribbon, share } from "./ribbon.js";
import { Server } from "./server.js";
import { Tasks } from "./tasks.js";
import {
  BROKEN_OFF,
  NOBODY,
  Trouble,
  WAVERING,
  adviceOn,
  callName,
  endingInWords,
  isAgentLost,
  isRefusal,
  serverInWords,
  whatIsMissing,
} from "./words.js";

// The server tells how a call ended once nothing is left of it, which takes up to two seconds.
const LAST_WORD = 3000;
// How often the figures of a call that is open are asked for.
const FIGURES = 2000;
const KEYS = "123456789*0#";
// Codes of a socket that ended as nobody wanted it to: lost, or closed by what is in between.
const BROKEN = new Set([1006, 1012, 1013, 1014]);

const ribbon = new Ribbon(byId("ribbon"));
const view = new CallView();
new Tasks(() => view.shown?.callSid);
let call = null; // from the press of Call until it is over
let ours = null; // the conversation of the last call from here, which stays until the next one's
let opened = null; // the conversation of another call that is looked at, or was
let began = 0;

function say(status) {
  byId("status").textContent = status;
}

// --- what is wrong ------------------------------------------------------------------------------

let callTrouble = null; // why there is no call, until the next is tried
let serverTrouble = null; // why the server cannot be talked with, as long as that is so

function complain(trouble) {
  callTrouble = trouble;
  showTrouble();
}

function showTrouble() {
  const isTalking = call !== null && call.turns !== null;
  const wavers = serverTrouble === NOBODY && isTalking ? WAVERING : serverTrouble;
  const troubles = [...new Set([callTrouble, wavers])].filter(Boolean);
  byId("trouble").hidden = troubles.length === 0;
  // What stands there is not to be read out again.
  const there = Array.from(byId("trouble").children, ({ textContent }) => textContent);
  if (String(there) === String(troubles)) return;
  byId("trouble").replaceChildren(...troubles.map((text) => make("p", {}, text)));
}

// --- the phone ----------------------------------------------------------------------------------

async function place() {
  complain(null);
  say("Asking for your microphone …");
  const placed = new Call(listener);
  call = placed;
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
  disable(byId("call"), call !== null);
  disable(byId("hang-up"), call === null);
  const isTalking = call !== null && call.turns !== null;
  for (const key of byId("keys").children) key.disabled = !isTalking;
  server.isInCall = call !== null;
}

const listener = {
  talking() {
    began = call.now;
    say("Connected. The agent is getting ready.");
    ours = new Conversation(call.callSid, { isOurs: true });
    ours.turns = call.turns;
    ours.line = call.figures;
    ribbon.restart();
    view.show(ours);
    showButtons();
    showCalls();
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
    view.showWaits();
  },
  interrupted() {
    view.showWaits();
  },
  over(closeCode) {
    const hasBegun = call.turns !== null;
    const seconds = call.now - began;
    call = null;
    levels.you = levels.agent = -Infinity;
    showLevels();
    tellLevels();
    showButtons();
    showTrouble();
    if (!hasBegun) {
      say("You hung up.");
      return;
    }
    const ended = ours;
    view.refresh();
    // Unless the server's word came first: it may overtake the close of the socket.
    if (!ended.isOver) say(closeCode === null ? "You hung up." : "The call is over.");
    if (closeCode !== null) setTimeout(() => conclude(ended, closeCode, seconds), LAST_WORD);
    if (BROKEN.has(closeCode)) tellLoss(ended);
    showCalls();
  },
};

/** The server has not told how the call ended. */
function conclude(conversation, closeCode, seconds) {
  if (conversation.isOver) return;
  view.update(conversation, conversation.story.conclude(seconds, null, closeCode));
  if (conversation === ours && call === null) {
    say("The call is over.");
    if (callTrouble === null && serverTrouble === null) {
      complain(endingInWords(null, { closeCode }));
    }
  }
  showCalls();
}

/** The socket of our call is gone. */
async function tellLoss(conversation) {
  const answers = await server.ask();
  // It may tell why, or that there is no server any more.
  if (answers && conversation === ours && !conversation.isOver && call === null) {
    complain(BROKEN_OFF);
  }
}

/** The server has told how our call ended. */
function hearEnd(fields) {
  if (call !== null && call.callSid !== ours.callSid) return;
  const advice = adviceOn(fields);
  say(advice === null ? endingInWords(fields) : "The call is over.");
  if (advice !== null) complain(`${endingInWords(fields)} ${advice}`);
}

// --- what moves while a call is on --------------------------------------------------------------

const levels = { you: -Infinity, agent: -Infinity };

function draw() {
  if (call === null) return;
  if (view.shown === ours) ribbon.draw();
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
  if (view.shown === ours) view.refresh();
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

function openKeypad(isOpen) {
  byId("keypad").dataset.open = String(isOpen);
  byId("keypad-toggle").ariaExpanded = String(isOpen);
}

// --- the server and its calls -------------------------------------------------------------------

let state = null;
let hasRefused = false;
let live = [];
let elsewhere = [];
let listedAt = 0;
const list = new CallList(byId("calls"), open);

function showServer() {
  const isWrong = serverTrouble !== null || (state !== null && (hasRefused || isAgentLost(state)));
  byId("server").classList.toggle("wrong", isWrong);
  if (serverTrouble !== null) byId("server").textContent = `${serverTrouble.split(/[.:]/)[0]}.`;
  else if (state !== null) byId("server").textContent = serverInWords(state, hasRefused);
}

function showWarnings({ warnings }) {
  byId("warnings").replaceChildren(...warnings.map((text) => make("li", {}, text)));
  byId("warnings").hidden = warnings.length === 0;
}

function showCalls() {
  const known = serverTrouble === null ? live : [];
  const ago = (performance.now() - listedAt) / 1000;
  const rows = rowsOf(known, ago, ours, opened);
  if (serverTrouble === null) rows.push(...rowsElsewhere(elsewhere, ago));
  list.show(rows, view.shown?.callSid);
  byId("no-calls").hidden = rows.length > 0 && serverTrouble === null;
  byId("no-calls").textContent = serverTrouble === null ? "None." : "Not known at present.";
}

/** Looks at a call of the list. */
async function open(callSid) {
  if (callSid === ours?.callSid) {
    view.show(ours);
  } else if (callSid !== opened?.callSid) {
    opened = new Conversation(callSid);
    const facts = live.find(({ call_sid: sid }) => sid === callSid);
    if (facts !== undefined) opened.know(facts);
    view.show(opened);
    await catchUp(opened);
  } else {
    view.show(opened);
  }
  showCalls();
}

/** Asks for what happened in a call behind what is known. */
async function catchUp(conversation) {
  try {
    const changed = await conversation.catchUp((after) => server.call(conversation.callSid, after));
    view.update(conversation, changed);
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    // The server is in trouble, which is told; or it does not know the call any more.
  }
  if (conversation === view.shown) view.refresh();
}

setInterval(() => {
  if (opened !== null && opened === view.shown && !opened.isOver) catchUp(opened);
}, FIGURES);

setInterval(() => {
  if (live.length > 0 || elsewhere.length > 0) showCalls();
  if (opened !== null && opened === view.shown && !opened.isOver) view.refresh();
}, 1000);

const server = new Server({
  knows(told) {
    state = told;
    showServer();
    showWarnings(told);
  },
  lists(calls, others) {
    live = calls;
    elsewhere = others;
    listedAt = performance.now();
    const facts = calls.find(({ call_sid: sid }) => sid === ours?.callSid);
    if (facts !== undefined) ours.know(facts);
    showCalls();
  },
  happened(event) {
    if (event.event === "agent.ready") hasRefused = false;
    if (event.event === "call.ended") hasRefused = isRefusal(event.fields.ending);
    for (const conversation of [ours, opened]) {
      if (conversation?.callSid !== event.call_sid) continue;
      view.update(conversation, conversation.hear(event));
      if (conversation.isOurs) hearOurs(event);
      else if (conversation.isOver) dialog.close();
      if (conversation.isOver) showCalls();
    }
  },
  missed() {
    for (const conversation of [ours, opened]) {
      if (conversation !== null && !conversation.isOver) catchUp(conversation);
    }
  },
  troubled(trouble) {
    serverTrouble = trouble;
    showTrouble();
    showServer();
    showCalls();
  },
});

function hearOurs({ event, fields }) {
  if (event === "call.transcript" && fields.role === "user") call?.turns?.hearWords(call.now);
  else if (event === "agent.ready" && call !== null) say("You are talking with the agent.");
  else if (event === "call.ended") hearEnd(fields);
}

// --- to end a call of somebody else's -----------------------------------------------------------

const dialog = byId("confirm");

byId("end-call").addEventListener("click", () => {
  byId("confirm-whom").textContent = opened.facts === null ? opened.callSid : callName(opened.facts);
  dialog.showModal();
});

byId("keep").addEventListener("click", () => dialog.close());

byId("end").addEventListener("click", async () => {
  dialog.close();
  const { callSid } = opened;
  try {
    await server.hangUp(callSid);
  } catch (error) {
    complain(`The call was not ended. ${error.message}`);
  }
});

// --- the beginning ------------------------------------------------------------------------------

byId("call").addEventListener("click", () => {
  if (!isDisabled(byId("call"))) place();
});
byId("hang-up").addEventListener("click", () => {
  if (!isDisabled(byId("hang-up"))) call.hangUp();
});
byId("keypad-toggle").addEventListener("click", () => {
  openKeypad(byId("keypad").dataset.open !== "true");
});
window.addEventListener("pagehide", () => call?.hangUp());
openKeypad(false);
view.refresh();
const missing = whatIsMissing(window);
showButtons();
if (missing !== null) {
  complain(missing);
  byId("call").disabled = true;
}
server.start();
