import assert from "node:assert/strict";
import { test } from "node:test";

import { Resampler } from "../../../sts_trio/web/static/resampler.js";

const RATES = [8000, 16000, 22050, 44100, 48000, 96000];

function sine(rate, frequency, seconds) {
  return Float32Array.from({ length: rate * seconds }, (_, n) =>
    Math.sin((2 * Math.PI * frequency * n) / rate),
  );
}

/** In blocks of 128, as the audio thread has them. */
function resample(samples, from, to) {
  const resampler = new Resampler(from, to);
  const output = [];
  for (let at = 0; at < samples.length; at += 128) {
    output.push(...resampler.push(samples.subarray(at, at + 128)));
  }
  return output;
}

/** Decibels of a sine's full scale, without the beginning, where the filter fills. */
function gain(samples, rate) {
  const settled = samples.slice(rate / 50);
  const power = settled.reduce((sum, sample) => sum + sample ** 2, 0) / settled.length;
  return 10 * Math.log10(2 * power);
}

for (const rate of RATES) {
  test(`at ${rate} Hz, the telephone band gets to 8 kHz as it is, and back`, () => {
    for (const frequency of [300, 1000, 2500, 3400]) {
      const down = resample(sine(rate, frequency, 1), rate, 8000);
      assert.ok(Math.abs(gain(down, 8000)) < 0.5, `${frequency} Hz: ${gain(down, 8000)} dB`);
      const up = resample(sine(8000, frequency, 1), 8000, rate);
      assert.ok(Math.abs(gain(up, rate)) < 0.5, `${frequency} Hz: ${gain(up, rate)} dB`);
    }
  });

  test(`at ${rate} Hz, a second is a second, however it is cut`, () => {
    assert.equal(resample(sine(rate, 440, 1), rate, 8000).length, 8000);
    assert.equal(resample(sine(8000, 440, 1), 8000, rate).length, rate);
    const whole = new Resampler(rate, 8000).push(sine(rate, 440, 1));
    assert.deepEqual(Array.from(whole), resample(sine(rate, 440, 1), rate, 8000));
  });
}

for (const rate of RATES.filter((each) => each > 16000)) {
  test(`from ${rate} Hz, nothing folds back into the telephone band`, () => {
    for (const frequency of [4100, 5000, 7000, 9000, 10900]) {
      const down = resample(sine(rate, frequency, 1), rate, 8000);
      assert.ok(gain(down, 8000) < -60, `${frequency} Hz: ${gain(down, 8000)} dB`);
    }
  });
}

test("to 48 kHz, the images of what is below 4 kHz are gone", () => {
  const up = resample(sine(8000, 3000, 1), 8000, 48000).slice(4800);
  // The first image of 3 kHz is at 5: what is there, by correlation.
  let [real, imaginary] = [0, 0];
  up.forEach((sample, n) => {
    real += sample * Math.cos((2 * Math.PI * 5000 * n) / 48000);
    imaginary += sample * Math.sin((2 * Math.PI * 5000 * n) / 48000);
  });
  const image = 20 * Math.log10((2 * Math.hypot(real, imaginary)) / up.length);
  assert.ok(image < -60, `${image} dB`);
});
