// What the page says when something is not as it should be: what happened, and what to do. Pure.

/** Something a caller is to be told, in words. */
export class Trouble extends Error {}

/** What is missing for a call from this browser, or null. `scope` is the window. */
export function whatIsMissing(scope) {
  if (!scope.isSecureContext) {
    return (
      "The browser gives no microphone to a page at this address. " +
      `Open it as http://localhost:${scope.location.port || 80} on the server's own machine, ` +
      "or over https."
    );
  }
  if (!scope.navigator.mediaDevices?.getUserMedia || !scope.AudioWorkletNode) {
    return "This browser cannot place calls: it has no AudioWorklet. A current one has.";
  }
  return null;
}

const MICROPHONE = {
  NotAllowedError:
    "The microphone was refused. Allow it for this page, beside the address above, " +
    "and in the system's privacy settings; then call again.",
  NotFoundError: "There is no microphone. Plug one in, then call again.",
  NotReadableError: "The microphone is taken by another program. Close that, then call again.",
};

/** `error` is what getUserMedia threw. */
export function microphoneTrouble(error) {
  return new Trouble(MICROPHONE[error.name] ?? `The microphone cannot be used: ${error.message}`);
}

export const NO_LOUDSPEAKER =
  "The browser cannot play sound: it finds no loudspeaker. Connect one, or start the system's sound " +
  "service, then call again.";

export const NOBODY =
  "The server does not answer. Is it still running? If it was stopped, start it again, and open " +
  "the address that it tells then.";

export const STRANGER =
  "The server does not let this page in any more: it was started anew, or its password is another. " +
  "Open the address that it told at its start.";

export const NOT_KEPT = "No past calls are kept here: STS_DATABASE_URL is none.";

export const DEAF =
  "The server answers, but what happens in calls cannot be followed: a proxy in between may not let " +
  "event streams through. The call goes on; its words will come once they can be had.";

export const WAVERING =
  "The connection to the server seems to be lost: it has not answered for some seconds. If the call " +
  "is silent, hang up and call again.";

const THERE =
  "The server is there: call again. If it happens again, a proxy in between may close connections; " +
  "the server's log says more.";

export const BROKEN_OFF = `The connection to the server broke off, and with it the call. ${THERE}`;

/** The server answered a plain request with this status. */
export function serverTrouble(status) {
  return (
    `The server, or a proxy before it, answers with HTTP ${status}. If that does not pass, ` +
    "look at the logs of both."
  );
}

/** `text` is the server's own answer to the request for a stream token. */
export function tokenTrouble(status, text) {
  const said = text.trim().slice(0, 500);
  return new Trouble(said || `The server refused the call with HTTP ${status}; its log says why.`);
}

/** The websocket did not open; a browser is not told why. `status` is /readyz's, null if none. */
export function socketTrouble(status) {
  if (status === null) return new Trouble(NOBODY);
  if (status === "full") {
    return new Trouble("All lines are busy. Wait until a call is over, or raise STS_MAX_CALLS.");
  }
  if (status === "draining") {
    return new Trouble("The server is shutting down and takes no more calls.");
  }
  return new Trouble(
    "The server refused the call's socket, though it has lines. Call again; if that fails " +
      "too, its log says why, and a proxy in between may not let websockets through.",
  );
}

// --- how a call ended ---------------------------------------------------------------------------

// {ending, as in the log: what it means to who has called from this page; to who looks on, if that
// is something else}
const ENDINGS = {
  stop: ["You hung up.", "The caller hung up."],
  agent_finished: ["The agent hung up."],
  hung_up: ["The agent hung up."],
  operator_hung_up: ["The operator hung up."],
  transferred: ["The call was transferred; a phone would ring now.", "The call was transferred."],
  not_hung_up: ["The conversation is over, but Twilio did not hang up the phone call."],
  not_transferred: ["The call could not be transferred."],
  silence: ["The agent hung up, as nobody spoke."],
  time_up: ["The longest call is over."],
  caller_closed: ["Your side closed the call.", "The caller's side closed the call."],
  caller_lost: ["The connection to the server was lost.", "The connection to the caller was lost."],
  caller_silent: ["The connection to the server was lost.", "The connection to the caller was lost."],
  caller_stalled: ["This page could not keep up with the call.", "The caller's side took no sound."],
  caller_no_start: ["This page did not begin the call in time.", "The caller's side did not begin."],
  caller_no_media: ["No sound came from this page.", "No sound came from the caller's side."],
  caller_refused: [
    "The server does not take this page's audio.",
    "The server does not take the caller's audio.",
  ],
  caller_too_big: ["This page sent too much at once.", "The caller's side sent too much at once."],
  agent_denied: ["The agent does not let the server in."],
  agent_rejected: ["The agent refused the call."],
  agent_unreachable: ["The server could not reach the agent."],
  agent_no_handshake: ["The agent did not answer."],
  agent_no_welcome: ["The agent did not answer."],
  agent_no_settings_applied: ["The agent did not take its settings."],
  agent_error: ["The agent reported an error."],
  agent_closed: ["The agent broke off the call."],
  agent_lost: ["The connection between server and agent was lost."],
  agent_silent: ["The agent fell silent."],
  agent_mute: ["The agent owed an answer, and said nothing."],
  agent_ran_away: ["The agent would not stop calling functions."],
  agent_too_big: ["The agent sent too much at once."],
  shutdown: ["The server is shutting down."],
  moved: ["Another server process goes on with the call."],
  cut_off: ["The server was stopped."],
  crashed: ["There is a bug in the server; its log has the traceback."],
  // Those of a call's record alone.
  refused: ["All lines were busy."],
  lost: ["The server was gone before it could tell how the call ended."],
  busy: ["The number called was busy."],
  "no-answer": ["Nobody answered."],
  failed: ["The call could not be placed."],
  canceled: ["The call was cancelled before anybody answered."],
};

/** [ending, words for who looks on], of all there are. */
export function endingNames() {
  return Object.entries(ENDINGS).map(([ending, [ours, theirs = ours]]) => [ending, theirs]);
}

const REACH =
  "Look at DEEPGRAM_URL, and whether this server's machine can reach that address; then call again.";
const LATER = "Call again; if that fails too, the server's log says more.";

// {ending: what to do about it}. Of all others that are no success, `LATER`.
const ADVICE = {
  agent_denied: "Look at DEEPGRAM_API_KEY, at the funds of its account, and at DEEPGRAM_URL.",
  agent_unreachable: REACH,
  agent_no_handshake: REACH,
  agent_no_welcome: REACH,
  agent_no_settings_applied: "Look at the agent's settings in sts-trio.toml; the log has its words.",
  agent_error: "Look at the agent's settings in sts-trio.toml; then call again.",
  caller_lost: THERE,
  caller_silent: THERE,
  caller_no_media: "Look whether the right microphone is chosen and not muted; then call again.",
  not_hung_up: "Look at what Twilio says of it, in the brackets; its console can end the call.",
  not_transferred: "Look at what Twilio says of it, in the brackets.",
  silence: "Look whether the right microphone is chosen and not muted.",
  crashed: "Please report it, with the traceback.",
  shutdown: "Call again once it is running.",
  cut_off: "Call again once it is running.",
};

/** How a call ended. `fields` are those of `call.ended`, null if the server did not tell. */
export function endingInWords(fields, { closeCode = null, isOurs = true } = {}) {
  if (fields === null) {
    const code = closeCode === null ? "" : ` (close code ${closeCode})`;
    return `The call is over${code}; the server did not say why.`;
  }
  const [ours, theirs = ours] = ENDINGS[fields.ending] ?? [`The call ended: ${fields.ending}.`];
  const words = isOurs ? ours : theirs;
  return fields.detail ? `${words} (${fields.detail})` : words;
}

const STATES = { announced: "No sound of it came.", moving: "Another server takes it over." };

/** How a call stands that is kept: `call` is as /calls?ended=1 lists it. */
export function stateInWords(call) {
  if (call.ending !== null) return endingInWords(call, { isOurs: false });
  return STATES[call.state] ?? call.state;
}

/** What to do about how a call from this page ended; null if it ended as calls should. */
export function adviceOn({ ending, verdict }) {
  if (ending in ADVICE) return ADVICE[ending];
  return verdict === "success" ? null : LATER;
}

// --- what happens in a call ---------------------------------------------------------------------

/** The words for a note of a story; see story.js. */
export function noteInWords({ event, fields }, isOurs) {
  const who = isOurs ? "You" : "The caller";
  switch (event) {
    case "agent.warned":
      return `The agent warns: ${fields.reason}`;
    case "agent.lost":
      return `${endingInWords(fields)} Another connection is opened.`;
    case "agent.reconnected":
      return `The agent is back, after ${fields.gap.toFixed(1)} s.`;
    case "agent.took_over":
      return `${fields.agent} took over, after ${fields.gap.toFixed(1)} s.`;
    case "agent.handed_over":
      return `The call is handed over to ${fields.to}.`;
    case "agent.unresponsive":
      return `The agent owes an answer, and has said nothing for ${fields.seconds.toFixed(1)} s.`;
    case "call.barge_in":
      return `${who} interrupted: ${fields.cut.toFixed(1)} s of it went unheard.`;
    case "call.false_interruption":
      return "It was but a noise: what it had cut is played on.";
    case "call.status":
      return `Twilio tells: ${fields.status}.`;
    case "call.noted":
      return `${fields.name}: ${fields.value}`;
    case "call.answered_by":
      return `Answered by ${fields.by.replaceAll("_", " ")}.`;
    case "call.moved":
      return wentOnInWords({ how: fields.how, gap_seconds: fields.gap });
    case "call.crashed":
      return "There is a bug in the server; its log has the traceback.";
    default:
      return fields.text;
  }
}

const WENT_ON = {
  moved: "Another server has taken the call over",
  recovered: "Its server was gone; another one goes on",
  returned: "The phone’s connection was lost; the call goes on",
};

/** Of a further stream of a call: how it came, and what there was between. */
export function wentOnInWords({ how, gap_seconds: gap = null }) {
  return `${WENT_ON[how] ?? "The call goes on"}${gap === null ? "" : `, after ${gap.toFixed(1)} s`}.`;
}

const OUTCOMES = {
  done: "done",
  late: "done, too late for the agent to wait",
  timed_out: "not done in time",
  unconfirmed: "to be confirmed by the caller first",
  cancelled: "given up",
  failed: "failed",
  refused: "refused",
};

/** A function of a story: what came of it, as far as that is known. */
export function functionInWords({ name, outcome, seconds, reason }) {
  if (outcome === null) return `The agent calls ${name} …`;
  const took = seconds === null ? "" : ` (${seconds.toFixed(1)} s)`;
  const why = reason === "" ? "" : `: ${reason}`;
  return `The agent called ${name}: ${OUTCOMES[outcome] ?? outcome}${took}${why}`;
}

export function keysInWords({ count }) {
  return count === 1 ? "A key was pressed." : `${count} keys were pressed.`;
}

// --- what there is to say of live calls ---------------------------------------------------------

const PHASES = {
  announced: "not answered yet",
  moving: "moving to another server",
  awaiting_start: "connecting",
  dialling: "dialling the agent",
  awaiting_welcome: "dialling the agent",
  awaiting_applied: "dialling the agent",
  parting: "saying goodbye",
  hung_up: "hanging up",
};

export function phaseInWords(phase) {
  return PHASES[phase] ?? phase.replaceAll("_", " ");
}

/** Whom a call is with: {from, to, direction, call_sid}, whatever of it is known. */
export function callName({ from, to, direction, call_sid: callSid }) {
  const isOutbound = direction.startsWith("outbound");
  return (isOutbound ? to && `to ${to}` : from) || callSid || "Connecting";
}

const AGENTS = {
  "offline ears": "The offline agent",
  "offline scripted": "The offline agent",
  deepgram: "Deepgram",
};
const BY_SCRIPT = " by script, whatever you say";
const STATUS = { ready: "", full: "All lines are busy", draining: "Shutting down" };

/** One line about the server: `state` is what /state tells, `hasRefused` that the agent has sent
 * away the newest call. */
export function serverInWords(state, hasRefused) {
  const live = ["no calls", "one call"][state.live] ?? `${state.live} calls`;
  const name = AGENTS[state.agent] ?? state.agent;
  const script = state.agent === "offline scripted" ? BY_SCRIPT : "";
  let agent = `${name} answers${script}`;
  if (hasRefused) agent = `${name} has refused the last call`;
  if (isAgentLost(state)) agent = `${name} could not be reached`;
  return [agent, STATUS[state.status] ?? state.status, live].filter(Boolean).join(" · ");
}

/** Whether the last dial to each of the agent's addresses failed. */
export function isAgentLost({ lines: { endpoints } }) {
  return endpoints.length > 0 && endpoints.every(({ failures }) => failures > 0);
}

/** Whether an ending, as in the log, is that of a call which the agent did not take. */
export function isRefusal(ending) {
  return ending === "agent_denied" || ending === "agent_rejected";
}
