// µ-law as in ITU-T G.711: a byte is a sample, 8000 of them a second. Pure.

// Of magnitudes of 13 bits, as the rule has them.
const BIAS = 33;
const MAX = 8191;

export const RATE = 8000;
export const SILENCE = 0xff;

/** The byte for a sample from -1 to 1; louder ones are clipped. */
export function encode(sample) {
  // The two lowest of 16 bits go, rounding downward, before the sign is set aside.
  const value = Math.round(sample * 32768) >> 2;
  const sign = value < 0 ? 0x80 : 0;
  const magnitude = Math.min(Math.abs(value) + BIAS, MAX);
  const segment = 26 - Math.clz32(magnitude);
  const step = (magnitude >> (segment + 1)) & 0x0f;
  return ~(sign | (segment << 4) | step) & 0xff;
}

// {byte: sample from -1 to 1}
const SAMPLES = Float32Array.from({ length: 256 }, (_, byte) => {
  const bits = ~byte & 0xff;
  const magnitude = ((((bits & 0x0f) << 1) + BIAS) << ((bits & 0x70) >> 4)) - BIAS;
  return (bits & 0x80 ? -magnitude : magnitude) / 8192;
});

export function decode(byte) {
  return SAMPLES[byte];
}

/** The loudness of µ-law in dBFS, a full-scale sine being -3; -Infinity is digital silence. */
export function loudness(bytes) {
  let sum = 0;
  for (const byte of bytes) sum += SAMPLES[byte] ** 2;
  return 10 * Math.log10(sum / bytes.length);
}

export function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

/** Throws if it is none. */
export function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
