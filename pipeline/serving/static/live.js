"use strict";
// A client of the server's socket: microphone or file, words as they come. No build step, no library.

const RATE_HZ = 24000;
const FRAME = 1920;
const PAUSE_HEAD = 2;
const AUDIO_HEAD = [0x82, 0xa4, ...ascii("type"), 0xa5, ...ascii("Audio"), 0xa3, ...ascii("pcm")];
const END_MARKER = 0;
const MAX_AHEAD_BYTES = 2 ** 20;

const find = (id) => document.getElementById(id);
let session = null;

function ascii(text) {
  return [...text].map((letter) => letter.charCodeAt(0));
}

// MessagePack, as far as the protocol needs it.
function packAudio(samples) {
  const view = new DataView(new ArrayBuffer(AUDIO_HEAD.length + 5 + 5 * samples.length));
  AUDIO_HEAD.forEach((byte, index) => view.setUint8(index, byte));
  let at = AUDIO_HEAD.length;
  view.setUint8(at, 0xdd);
  view.setUint32(at + 1, samples.length);
  at += 5;
  for (const sample of samples) {
    view.setUint8(at, 0xca);
    view.setFloat32(at + 1, sample);
    at += 5;
  }
  return view.buffer;
}

function packMarker(id) {
  return new Uint8Array([
    0x82, 0xa4, ...ascii("type"), 0xa6, ...ascii("Marker"), 0xa2, ...ascii("id"), id,
  ]);
}

function unpack(buffer) {
  const view = new DataView(buffer);
  const decoder = new TextDecoder();
  let at = 0;
  const bytes = (count) => {
    at += count;
    return new Uint8Array(buffer, at - count, count);
  };
  const number = (name, size) => {
    at += size;
    return view[name](at - size);
  };
  const many = (count, one) => Array.from({ length: count }, one);
  const map = (count) => Object.fromEntries(many(count, () => [value(), value()]));
  function value() {
    const kind = number("getUint8", 1);
    if (kind < 0x80) return kind;
    if (kind < 0x90) return map(kind & 15);
    if (kind < 0xa0) return many(kind & 15, value);
    if (kind < 0xc0) return decoder.decode(bytes(kind & 31));
    if (kind >= 0xe0) return kind - 256;
    switch (kind) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xca: return number("getFloat32", 4);
      case 0xcb: return number("getFloat64", 8);
      case 0xcc: return number("getUint8", 1);
      case 0xcd: return number("getUint16", 2);
      case 0xce: return number("getUint32", 4);
      case 0xcf: return Number(number("getBigUint64", 8));
      case 0xd0: return number("getInt8", 1);
      case 0xd1: return number("getInt16", 2);
      case 0xd2: return number("getInt32", 4);
      case 0xd3: return Number(number("getBigInt64", 8));
      case 0xd9: return decoder.decode(bytes(number("getUint8", 1)));
      case 0xda: return decoder.decode(bytes(number("getUint16", 2)));
      case 0xdc: return many(number("getUint16", 2), value);
      default: throw new Error(`MessagePack of kind ${kind}`);
    }
  }
  return value();
}

class Session {
  constructor() {
    this.sentAt = []; // when the last sample of each frame was sent
    this.rest = new Float32Array(0);
    this.facts = { prefix_frames: 13, delay_frames: 32, flush_frames: 50 };
    this.isEnding = false;
    this.release = () => {};
  }

  open() {
    const key = find("key").value;
    const query = new URLSearchParams({ details: "1", ...(key ? { auth_id: key } : {}) });
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/api/asr-streaming?${query}`);
    this.socket.binaryType = "arraybuffer";
    return new Promise((resolve, reject) => {
      this.socket.onmessage = (event) => {
        const message = unpack(event.data);
        if (message.type === "Ready") {
          this.facts = { ...this.facts, ...message };
          this.send(new Float32Array(FRAME * this.facts.prefix_frames));
          resolve();
        } else if (message.type === "Error") {
          this.fail(message.message);
          reject(new Error(message.message));
        } else {
          this.hear(message);
        }
      };
      this.socket.onclose = (event) => {
        const reason = "the server does not take the connection: is the key right?";
        reject(new Error(reason));
        if (!this.isOver) this.fail(event.code === 1006 ? reason : `the server closed (${event.code})`);
      };
    });
  }

  // Sends whole frames, so that the latency of each is known.
  send(samples) {
    const all = new Float32Array(this.rest.length + samples.length);
    all.set(this.rest);
    all.set(samples, this.rest.length);
    let first = 0;
    for (; first + FRAME <= all.length; first += FRAME) {
      if (this.socket.readyState !== WebSocket.OPEN) return;
      this.socket.send(packAudio(all.subarray(first, first + FRAME)));
      this.sentAt.push(performance.now());
    }
    this.rest = all.slice(first);
  }

  hear(message) {
    if (message.type === "Step") this.showStep(message);
    if (message.type === "Word") showWord(message, this.facts.prefix_frames * 0.08);
    if (message.type === "Marker") this.close("Done.");
  }

  showStep(step) {
    const sentAt = this.sentAt[step.step_idx - 1];
    if (sentAt !== undefined) find("latency").textContent = `${Math.round(performance.now() - sentAt)} ms`;
    find("waiting").textContent = `${(step.buffered_pcm / RATE_HZ).toFixed(1)} s`;
    find("pause").value = step.prs[Math.min(PAUSE_HEAD, step.prs.length - 1)] ?? 0;
  }

  // Silence, a Marker, and silence until it must be answered.
  finish() {
    if (this.isEnding || this.isOver) return;
    this.isEnding = true;
    this.release();
    find("status").textContent = "Waiting for the last words.";
    this.send(new Float32Array(FRAME * (this.facts.flush_frames + 1)));
    this.socket.send(packMarker(END_MARKER));
    this.send(new Float32Array(FRAME * (this.facts.delay_frames + 2)));
  }

  fail(reason) {
    this.close(reason);
    find("status").className = "error";
  }

  close(text) {
    this.isOver = true;
    this.release();
    this.socket.close(1000);
    show(text, false);
  }
}

function showWord(word, lead_s) {
  const shown = document.createElement("span");
  shown.textContent = word.text;
  shown.title = `${Math.max(word.start_time - lead_s, 0).toFixed(2)} s, confidence ${word.confidence ?? "unknown"}`;
  const confidence = word.confidence ?? 1;
  shown.className = confidence >= 0.8 ? "sure" : confidence >= 0.5 ? "doubtful" : "very-doubtful";
  const words = find("words");
  if (words.childNodes.length) words.append(" ");
  words.append(shown);
  words.scrollTop = words.scrollHeight;
}

function show(text, isRunning) {
  find("status").textContent = text;
  find("status").className = "";
  find("microphone").disabled = find("file").disabled = isRunning;
  find("stop").disabled = !isRunning;
}

const CAPTURE = `
registerProcessor("capture", class extends AudioWorkletProcessor {
  process([channels]) {
    if (channels.length) this.port.postMessage(channels[0].slice());
    return true;
  }
});`;

async function fromMicrophone(current) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext({ sampleRate: RATE_HZ });
  current.release = () => {
    stream.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") context.close();
  };
  const address = URL.createObjectURL(new Blob([CAPTURE], { type: "text/javascript" }));
  await context.audioWorklet.addModule(address);
  URL.revokeObjectURL(address);
  await current.open();
  const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
  capture.port.onmessage = (event) => {
    if (!current.isEnding) current.send(event.data);
  };
  context.createMediaStreamSource(stream).connect(capture);
  show("Listening.", true);
}

async function fromFile(current, file) {
  const context = new OfflineAudioContext(1, 1, RATE_HZ);
  const audio = await context.decodeAudioData(await file.arrayBuffer());
  const samples = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((sample, index) => (samples[index] += sample / audio.numberOfChannels));
  }
  await current.open();
  show(`Sending ${file.name}.`, true);
  for (let first = 0; first < samples.length && !current.isEnding && !current.isOver; first += FRAME) {
    current.send(samples.subarray(first, first + FRAME));
    while (current.socket.bufferedAmount > MAX_AHEAD_BYTES) await new Promise((done) => setTimeout(done, 20));
  }
  current.finish();
}

async function begin(source) {
  session = new Session();
  find("words").replaceChildren();
  show("Connecting.", true);
  try {
    await source(session);
  } catch (error) {
    session.isOver = true;
    session.release();
    session.socket?.close();
    show(`It did not work: ${error.message}`, false);
    find("status").className = "error";
  }
}

find("microphone").addEventListener("click", () => begin(fromMicrophone));
find("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) begin((current) => fromFile(current, file));
  event.target.value = "";
});
find("stop").addEventListener("click", () => session?.finish());
