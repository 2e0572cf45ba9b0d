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
  assert.equal(words.endingInWords({ ending: "stop", detail: "" }, 1000), "You hung up.");
  assert.match(words.endingInWords({ ending: "agent_error", detail: "X: y" }, 1011), /\(X: y\)$/);
  assert.match(words.endingInWords({ ending: "new_one", detail: "" }, 1011), /new_one/);
  assert.match(words.endingInWords(null, 1006), /1006/);
  assert.doesNotMatch(words.endingInWords(null, null), /null/);
});
