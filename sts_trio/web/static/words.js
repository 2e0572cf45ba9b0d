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

export const NOBODY = "The server does not answer. Is it still running?";

export const STRANGER =
  "The server does not let this page in any more: it was started anew, or its password is another. " +
  "Open the address that it told at its start.";

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

// {ending, as in the log: what it means here}
const ENDINGS = {
  stop: "You hung up.",
  agent_finished: "The agent hung up.",
  hung_up: "The agent hung up.",
  transferred: "The call was transferred; a phone would ring now.",
  not_hung_up: "The agent hung up; Twilio may not have, so the phone call may go on.",
  not_transferred: "The call was to be transferred, and was not.",
  silence: "The agent hung up, as nobody spoke.",
  time_up: "The longest call is over.",
  caller_closed: "Your side closed the call.",
  caller_lost: "The connection to the server was lost.",
  caller_silent: "The connection to the server was lost.",
  caller_stalled: "This page could not keep up with the call.",
  caller_no_start: "This page did not begin the call in time.",
  caller_no_media: "No sound came from this page.",
  caller_refused: "The server does not take this page's audio.",
  caller_too_big: "This page sent too much at once.",
  agent_denied: "The agent does not let the server in: look at its key, its funds and the address.",
  agent_rejected: "The agent refused the call.",
  agent_unreachable: "The server could not reach the agent.",
  agent_no_handshake: "The agent did not answer.",
  agent_no_welcome: "The agent did not answer.",
  agent_no_settings_applied: "The agent did not take its settings.",
  agent_error: "The agent reported an error.",
  agent_closed: "The agent broke off the call.",
  agent_lost: "The connection between server and agent was lost.",
  agent_silent: "The agent fell silent.",
  agent_mute: "The agent owed an answer, and said nothing.",
  agent_ran_away: "The agent would not stop calling functions.",
  agent_too_big: "The agent sent too much at once.",
  shutdown: "The server is shutting down.",
  cut_off: "The server was stopped.",
  crashed: "There is a bug in the server; its log has the traceback.",
};

/** How a call ended. `fields` are those of `call.ended`, null if the server did not tell. */
export function endingInWords(fields, closeCode) {
  if (fields === null) {
    const code = closeCode === null ? "" : ` (close code ${closeCode})`;
    return `The call is over${code}; the server did not say why.`;
  }
  const words = ENDINGS[fields.ending] ?? `The call ended: ${fields.ending}.`;
  return fields.detail ? `${words} (${fields.detail})` : words;
}
