import assert from "node:assert/strict";
import { test } from "node:test";

import { cutSentences } from "../../../sts_trio/web/static/heard.js";

test("what was heard to the end stays whole", () => {
  assert.deepEqual(cutSentences(["One two.", "Three."], "One two. Three.", "One two. Three."), [
    { heard: "One two.", unheard: "" },
    { heard: "Three.", unheard: "" },
  ]);
});

test("a sentence is cut after the last word that was heard", () => {
  assert.deepEqual(cutSentences(["One two.", "Three four."], "One two. Three four.", "One two. Three"), [
    { heard: "One two.", unheard: "" },
    { heard: "Three ", unheard: "four." },
  ]);
});

test("of which nothing was heard, nothing stays", () => {
  assert.deepEqual(cutSentences(["One two."], "One two.", ""), [
    { heard: "", unheard: "One two." },
  ]);
});

test("sentences of the next utterance are left alone", () => {
  assert.deepEqual(cutSentences(["One.", "Two."], "One.", "One."), [{ heard: "One.", unheard: "" }]);
});

test("without sentences there is nothing to cut", () => {
  assert.deepEqual(cutSentences([], "One.", "One."), []);
  assert.deepEqual(cutSentences([" "], "", ""), []);
});
