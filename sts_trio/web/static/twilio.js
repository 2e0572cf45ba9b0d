// Twilio's end of the Media Streams protocol: what it writes, and how strictly it reads. Pure.
// Counters are strings, as Twilio writes them.
// Source: Twilio, "Media Streams: WebSocket messages", read 2026-11-22.

import { fromBase64, toBase64 } from "./g711.js";

/** A SID of the kind that begins with these two letters. */
export function makeSid(kind) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return kind + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Writes one stream's messages, each as the text of a websocket message. */
export class Writer {
  accountSid = makeSid("AC");
  callSid = makeSid("CA");
  streamSid = makeSid("MZ");
  #sequence = 0;
  #chunk = 0;

  connected() {
    return JSON.stringify({ event: "connected", protocol: "Call", version: "1.0.0" });
  }

  start(customParameters = {}) {
    const { accountSid, callSid, streamSid } = this;
    const mediaFormat = { encoding: "audio/x-mulaw", sampleRate: 8000, channels: 1 };
    return this.#write("start", {
      accountSid,
      streamSid,
      callSid,
      tracks: ["inbound"],
      mediaFormat,
      customParameters,
    });
  }

  /** `milliseconds` since the stream began. */
  media(frame, milliseconds) {
    this.#chunk += 1;
    return this.#write("media", {
      track: "inbound",
      chunk: String(this.#chunk),
      timestamp: String(Math.round(milliseconds)),
      payload: toBase64(frame),
    });
  }

  dtmf(digit) {
    return this.#write("dtmf", { track: "inbound_track", digit });
  }

  mark(name) {
    return this.#write("mark", { name });
  }

  stop() {
    const { accountSid, callSid } = this;
    return this.#write("stop", { accountSid, callSid });
  }

  #write(event, body) {
    this.#sequence += 1;
    return JSON.stringify({
      event,
      sequenceNumber: String(this.#sequence),
      streamSid: this.streamSid,
      [event]: body,
    });
  }
}

const WARNING = 31951; // "Stream - Protocol - Invalid message"
const BINARY = 31950;

/** What Twilio warns of, and otherwise ignores. */
export class Refused extends Error {
  constructor(warning, reason) {
    super(`warning ${warning}: ${reason}`);
    this.warning = warning;
  }
}

/** One message of the bridge: {play: bytes}, {mark: name} or {clear: true}; or throws Refused. */
export function read(data, streamSid) {
  if (typeof data !== "string") throw new Refused(BINARY, "a binary message");
  let message;
  try {
    message = JSON.parse(data);
  } catch {
    throw new Refused(WARNING, "not JSON");
  }
  const { event } = message ?? {};
  if (event === "clear") {
    expectKeys(message, ["event", "streamSid"], streamSid);
    return { clear: true };
  }
  if (event === "mark") {
    expectKeys(message, ["event", "mark", "streamSid"], streamSid);
    return { mark: onlyText(message.mark, "name") };
  }
  if (event === "media") {
    expectKeys(message, ["event", "media", "streamSid"], streamSid);
    return { play: readPayload(onlyText(message.media, "payload")) };
  }
  throw new Refused(WARNING, `unknown event ${JSON.stringify(event)}`);
}

// It refuses keys it does not know as well as missing ones, and other streams' messages.
function expectKeys(message, keys, streamSid) {
  const found = Object.keys(message).sort().join(", ");
  if (found !== keys.join(", ")) throw new Refused(WARNING, `has ${found}`);
  if (message.streamSid !== streamSid) throw new Refused(WARNING, "another stream's message");
}

function onlyText(body, key) {
  const keys = Object.keys(body ?? {});
  if (keys.length !== 1 || typeof body[key] !== "string") {
    throw new Refused(WARNING, `expected ${key} and nothing else, got ${keys.join(", ")}`);
  }
  return body[key];
}

function readPayload(text) {
  try {
    return fromBase64(text);
  } catch {
    throw new Refused(WARNING, "the payload is not base64");
  }
}
