import assert from "node:assert/strict";
import { test } from "node:test";

import { Refused, Writer, makeSid, read } from "../../../sts_trio/web/static/twilio.js";

test("SIDs look like Twilio's", () => {
  assert.match(makeSid("MZ"), /^MZ[0-9a-f]{32}$/);
  assert.notEqual(makeSid("CA"), makeSid("CA"));
});

test("a stream is written as Twilio writes it: counters are strings, and count up", () => {
  const writer = new Writer();
  const { accountSid, callSid, streamSid } = writer;
  assert.deepEqual(JSON.parse(writer.connected()), {
    event: "connected",
    protocol: "Call",
    version: "1.0.0",
  });
  assert.deepEqual(JSON.parse(writer.start({ to: "+15005550006" })), {
    event: "start",
    sequenceNumber: "1",
    streamSid,
    start: {
      accountSid,
      streamSid,
      callSid,
      tracks: ["inbound"],
      mediaFormat: { encoding: "audio/x-mulaw", sampleRate: 8000, channels: 1 },
      customParameters: { to: "+15005550006" },
    },
  });
  const media = JSON.parse(writer.media(new Uint8Array(160).fill(0xff), 20.4));
  assert.deepEqual(
    [media.sequenceNumber, media.media.chunk, media.media.timestamp, media.media.track],
    ["2", "1", "20", "inbound"],
  );
  assert.equal(media.media.payload.length, 216);
  assert.deepEqual(JSON.parse(writer.dtmf("#")), {
    event: "dtmf",
    sequenceNumber: "3",
    streamSid,
    dtmf: { track: "inbound_track", digit: "#" },
  });
  assert.deepEqual(JSON.parse(writer.mark("e0-1")).mark, { name: "e0-1" });
  assert.equal(JSON.parse(writer.media(new Uint8Array(160), 40)).media.chunk, "2");
  assert.deepEqual(JSON.parse(writer.stop()), {
    event: "stop",
    sequenceNumber: "6",
    streamSid,
    stop: { accountSid, callSid },
  });
});

test("what the bridge says is read", () => {
  const message = (rest) => JSON.stringify({ streamSid: "MZ1", ...rest });
  assert.deepEqual(read(message({ event: "clear" }), "MZ1"), { clear: true });
  assert.deepEqual(read(message({ event: "mark", mark: { name: "a" } }), "MZ1"), { mark: "a" });
  assert.deepEqual(read(message({ event: "media", media: { payload: "/38=" } }), "MZ1"), {
    play: Uint8Array.of(0xff, 0x7f),
  });
});

for (const [name, data, warning] of [
  ["a binary message", new ArrayBuffer(3), 31950],
  ["no JSON", "{", 31951],
  ["nothing", "null", 31951],
  ["an unknown event", '{"event":"dtmf","streamSid":"MZ1"}', 31951],
  ["another stream's message", '{"event":"clear","streamSid":"MZ2"}', 31951],
  ["a key too many", '{"event":"clear","streamSid":"MZ1","x":1}', 31951],
  ["a key too few", '{"event":"media","streamSid":"MZ1"}', 31951],
  ["a body that is none", '{"event":"mark","streamSid":"MZ1","mark":null}', 31951],
  ["a payload that is none", '{"event":"media","streamSid":"MZ1","media":{"payload":7}}', 31951],
  ["no base64", '{"event":"media","streamSid":"MZ1","media":{"payload":"%"}}', 31951],
]) {
  test(`Twilio would refuse ${name}, and so is it here`, () => {
    assert.throws(
      () => read(data, "MZ1"),
      (error) => error instanceof Refused && error.warning === warning,
    );
  });
}
