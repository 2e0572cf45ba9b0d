// What of the agent's sentences the caller heard. Pure.

/**
 * Cuts `sentences`, those the agent has said and nobody has settled yet, by the server's word of one
 * utterance: `said` is all of it, `heard` its beginning. Returns {heard, unheard} for each sentence
 * of that utterance, in order.
 */
export function cutSentences(sentences, said, heard) {
  let words = count(said);
  let left = count(heard);
  const cut = [];
  for (const sentence of sentences) {
    const own = count(sentence);
    if (words < own || own === 0) break;
    words -= own;
    const known = Math.min(left, own);
    left -= known;
    cut.push(split(sentence, known));
  }
  return cut;
}

function count(text) {
  return text.split(/\s+/).filter(Boolean).length;
}

/** After so many words. */
function split(sentence, words) {
  const parts = sentence.match(/\S+\s*/g) ?? [];
  return { heard: parts.slice(0, words).join(""), unheard: parts.slice(words).join("") };
}
