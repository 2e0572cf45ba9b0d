import assert from "node:assert/strict";
import { test } from "node:test";

import {
  decode,
  encode,
  fromBase64,
  loudness,
  toBase64,
} from "../../../sts_trio/web/static/g711.js";

test("every byte is the code of its own sample, but for the negative zero", () => {
  for (let byte = 0; byte < 256; byte += 1) {
    assert.equal(encode(decode(byte)), byte === 0x7f ? 0xff : byte);
  }
});

test("known samples have the codes of the standard", () => {
  const known = { 0: 0xff, 4: 0xfe, 124: 0xef, 1000: 0xce, 32767: 0x80 };
  for (const [sample, code] of Object.entries(known)) assert.equal(encode(sample / 32768), code);
  for (const [sample, code] of [[-1, 0x7e], [-9, 0x7d], [-1000, 0x4e], [-32768, 0x00]]) {
    assert.equal(encode(sample / 32768), code);
  }
});

test("what is beyond full scale is clipped", () => {
  assert.equal(encode(1.7), 0x80);
  assert.equal(encode(-1.7), 0x00);
});

test("loudness is in decibels of full scale", () => {
  const sine = Uint8Array.from({ length: 160 }, (_, n) => encode(Math.sin((2 * Math.PI * n) / 8)));
  assert.ok(Math.abs(loudness(sine) + 3) < 0.3, String(loudness(sine)));
  assert.equal(loudness(new Uint8Array(160).fill(0xff)), -Infinity);
});

test("base64 comes back as it went", () => {
  const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  assert.deepEqual(fromBase64(toBase64(all)), all);
  assert.throws(() => fromBase64("a%"));
});
