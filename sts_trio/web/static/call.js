// One call: from the microphone to the server's /twilio socket and back, as Twilio would have it.

import { here } from "./address.js";
import { Writer, read } from "./twilio.js";
import { Turns } from "./turns.js";
import {
  NOBODY,
  NO_LOUDSPEAKER,
  Trouble,
  microphoneTrouble,
  socketTrouble,
  tokenTrouble,
} from "./words.js";

// Milliseconds. It takes some ten; where there is no loudspeaker, Firefox waits for one for ever.
const SOUND_WITHIN = 5000;
// Twilio does not wait for a bridge that reads too slowly; a second of frames may lie here.
const MAX_UNSENT = 20_000;

const VOICE = {
  channelCount: 1,
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
};

/**
 * Place it once. It tells its `listener`, each by a method of that name:
 *
 * talking()              the socket is open, and the microphone is heard
 * caller(loudness, time) fifty times a second
 * agent(loudness, time)  fifty times a second, what is played just now
 * answered(answer)       the agent begins to answer; see turns.js
 * interrupted(bargeIn)   the agent fell silent for the caller
 * over(closeCode)        nothing is left of the call; null if it was us who hung up
 *
 * Times are seconds of one clock, `now`.
 */
export class Call {
  figures = {
    sent: 0, // frames
    skipped: 0, // frames the connection was too slow for
    received: 0, // bytes of µ-law, as the rest of these
    played: 0,
    waiting: 0,
    dropped: 0,
    marks: 0, // echoed
    clears: 0,
    refused: 0, // messages Twilio would not take
    firstRefusal: "",
  };
  turns = null;
  #listener;
  #writer = new Writer();
  #context = null;
  #microphone = null; // the MediaStream
  #earpiece = null; // the node
  #socket = null;
  #began = 0;
  #isOver = false;

  constructor(listener) {
    this.#listener = listener;
  }

  get callSid() {
    return this.#writer.callSid;
  }

  get now() {
    return this.#context?.currentTime ?? 0;
  }

  /** Throws a Trouble if there is no call; nothing is left open then. */
  async place() {
    try {
      // First of all, as long as the browser takes it for the answer to a press of a button.
      this.#context = new AudioContext({ latencyHint: "interactive" });
      this.#microphone = await askForMicrophone();
      await inTime(this.#context.resume());
      const path = await askForToken();
      await this.#context.audioWorklet.addModule(new URL("audio-worklet.js", import.meta.url));
      if (!this.#isOver) await this.#connect(path);
    } catch (error) {
      // Whoever hangs up meanwhile wants no call, and no reason why there is none.
      if (!this.#isOver) {
        this.#isOver = true;
        throw error;
      }
    } finally {
      if (this.#isOver) await this.#close();
    }
  }

  press(digit) {
    if (this.#isOpen) this.#socket.send(this.#writer.dtmf(digit));
  }

  /** As Twilio does when the caller hangs up. */
  async hangUp() {
    if (this.#isOpen) {
      this.#socket.send(this.#writer.stop());
      this.#socket.close(1000);
    }
    await this.#end(null);
  }

  get #isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  async #connect(path) {
    const url = here(path);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.#socket = socket;
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onclose = () => reject(new Error("refused"));
    }).catch(async () => {
      throw socketTrouble(await askReadiness());
    });
    if (this.#isOver) {
      socket.close(1000);
      return;
    }
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code }) => this.#end(code);
    socket.send(this.#writer.connected());
    socket.send(this.#writer.start());
    this.#began = this.now;
    this.turns = new Turns(this.now);
    this.#wire();
    this.#listener.talking();
  }

  #wire() {
    const context = this.#context;
    const one = { numberOfInputs: 1, numberOfOutputs: 1, outputChannelCount: [1] };
    const microphone = new AudioWorkletNode(context, "microphone", one);
    microphone.port.onmessage = ({ data }) => this.#say(data);
    this.#earpiece = new AudioWorkletNode(context, "earpiece", { ...one, numberOfInputs: 0 });
    this.#earpiece.port.onmessage = ({ data }) => this.#hearEarpiece(data);
    // The microphone's node is silent; what leads nowhere may not be run.
    context.createMediaStreamSource(this.#microphone).connect(microphone);
    microphone.connect(context.destination);
    this.#earpiece.connect(context.destination);
  }

  #say({ frame, loudness, time }) {
    if (!this.#isOpen) return;
    if (this.#socket.bufferedAmount > MAX_UNSENT) {
      this.figures.skipped += 1;
    } else {
      this.#socket.send(this.#writer.media(frame, 1000 * (time - this.#began)));
      this.figures.sent += 1;
    }
    this.turns.hearCaller(loudness, time);
    this.#listener.caller(loudness, time);
  }

  #hear(data) {
    let message;
    try {
      message = read(data, this.#writer.streamSid);
    } catch (refused) {
      this.figures.refused += 1;
      this.figures.firstRefusal ||= refused.message;
      return;
    }
    if (message.play !== undefined) this.figures.received += message.play.length;
    if (message.clear) this.figures.clears += 1;
    this.#earpiece.port.postMessage(message);
  }

  #hearEarpiece({ marks, cleared, loudness, time, waiting, played, dropped }) {
    if (this.#isOver) return;
    if (marks !== undefined) {
      for (const name of marks) {
        if (this.#isOpen) this.#socket.send(this.#writer.mark(name));
        this.figures.marks += 1;
      }
    } else if (cleared !== undefined) {
      const bargeIn = this.turns.clear(cleared);
      if (bargeIn) this.#listener.interrupted(bargeIn);
    } else {
      Object.assign(this.figures, { waiting, played, dropped });
      const answer = this.turns.hearAgent(loudness, time);
      if (answer) this.#listener.answered(answer);
      this.#listener.agent(loudness, time);
    }
  }

  async #end(closeCode) {
    if (this.#isOver) return;
    this.#isOver = true;
    await this.#close();
    this.#listener.over(closeCode);
  }

  async #close() {
    for (const track of this.#microphone?.getTracks() ?? []) track.stop();
    this.#socket?.close(1000);
    if (this.#context !== null && this.#context.state !== "closed") await this.#context.close();
  }
}

/** Waits for the browser to play sound. */
async function inTime(resumed) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Trouble(NO_LOUDSPEAKER)), SOUND_WITHIN);
  });
  try {
    await Promise.race([resumed, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function askForMicrophone() {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: VOICE });
  } catch (error) {
    throw microphoneTrouble(error);
  }
}

/** The path at which one socket is let in. */
async function askForToken() {
  let response;
  try {
    response = await fetch(here("stream-token"), { method: "POST" });
  } catch {
    throw new Trouble(NOBODY);
  }
  if (!response.ok) throw tokenTrouble(response.status, await response.text());
  return (await response.json()).path;
}

/** "ready", "full" or "draining"; null if nobody answers. */
async function askReadiness() {
  try {
    return (await (await fetch(here("readyz"))).json()).status;
  } catch {
    return null;
  }
}
