import assert from "node:assert/strict";
import { test } from "node:test";

import * as words from "../../../sts_trio/web/static/words.js";

const able = {
  isSecureContext: true,
  location: { port: "5000" },
  navigator: { mediaDevices: { getUserMedia() {} } },
  AudioWorkletNode: class {},
};

test("a browser that has all it takes lacks nothing", () => {
  assert.equal(words.whatIsMissing(able), null);
});

test("an address without a secure context is told which has one", () => {
  const text = words.whatIsMissing({ ...able, isSecureContext: false, navigator: {} });
  assert.match(text, /http:\/\/localhost:5000/);
  assert.match(text, /https/);
});

test("a browser without AudioWorklet is told so", () => {
  assert.match(words.whatIsMissing({ ...able, AudioWorkletNode: undefined }), /AudioWorklet/);
});

test("every refusal of the microphone says what to do", () => {
  for (const [name, advice] of [
    ["NotAllowedError", /Allow it/],
    ["NotFoundError", /Plug one in/],
    ["NotReadableError", /another program/],
    ["AbortError", /in the words of the browser/],
  ]) {
    const error = Object.assign(new Error("in the words of the browser"), { name });
    assert.match(words.microphoneTrouble(error).message, advice);
  }
});

test("a refused socket is explained by what the server says of itself", () => {
  assert.match(words.socketTrouble("full").message, /busy.*STS_MAX_CALLS/);
  assert.match(words.socketTrouble("draining").message, /shutting down/);
  assert.match(words.socketTrouble("ready").message, /log/);
  assert.equal(words.socketTrouble(null).message, words.NOBODY);
});

test("a refused token is told in the server's words, if it has any", () => {
  assert.equal(words.tokenTrouble(403, "Refused: do this.\n").message, "Refused: do this.");
  assert.match(words.tokenTrouble(502, "").message, /502/);
});

test("an ending is told in words, with its detail", () => {
  const inWords = words.endingInWords;
  assert.equal(inWords({ ending: "stop", detail: "" }), "You hung up.");
  assert.equal(inWords({ ending: "stop", detail: "" }, { isOurs: false }), "The caller hung up.");
  assert.equal(inWords({ ending: "agent_finished" }, { isOurs: false }), "The agent hung up.");
  assert.match(inWords({ ending: "agent_error", detail: "X: y" }), /\(X: y\)$/);
  assert.match(inWords({ ending: "new_one", detail: "" }), /new_one/);
  assert.match(inWords(null, { closeCode: 1006 }), /1006/);
  assert.doesNotMatch(inWords(null), /null/);
});

test("of an end that is none as calls should have, it is said what to do", () => {
  const advice = (ending, verdict) => words.adviceOn({ ending, verdict });
  assert.equal(advice("stop", "success"), null);
  assert.equal(advice("agent_finished", "success"), null);
  assert.match(advice("agent_unreachable", "agent"), /DEEPGRAM_URL/);
  assert.match(advice("agent_denied", "ours"), /DEEPGRAM_API_KEY/);
  assert.match(advice("one_of_tomorrow", "agent"), /Call again/);
});

test("an agent that cannot be had is not said to answer", () => {
  const state = { agent: "deepgram", live: 0, status: "ready", lines: { endpoints: [] } };
  const with_ = (...failures) => ({
    ...state,
    lines: { endpoints: failures.map((count) => ({ failures: count })) },
  });
  assert.match(words.serverInWords(state, false), /Deepgram answers/);
  assert.match(words.serverInWords(with_(0), false), /Deepgram answers/);
  assert.match(words.serverInWords(with_(1, 0), false), /Deepgram answers/);
  assert.match(words.serverInWords(with_(1, 2), false), /could not be reached/);
  assert.match(words.serverInWords(with_(0), true), /refused the last call/);
});
