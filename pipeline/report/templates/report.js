"use strict";
const PAGES = new Map(JSON.parse(document.getElementById("data").textContent).map((page) => [page.id, page]));
const SOUNDS = JSON.parse(document.getElementById("sounds").textContent);
const SURE = 0.9, UNSURE = 0.6, PAUSE_S = 0.8;
const find = (id) => document.getElementById(id);
const player = find("player"), waveform = find("waveform");
let page = null, spans = [], spoken = null, soundUrl = null;

function clock(time_s) {
  const seconds = Math.round(time_s), pad = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
  return hours ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`;
}

function certainty(confidence) {
  return confidence >= SURE ? "sure" : confidence >= UNSURE ? "unsure" : "doubtful";
}

function showAddressed() {
  let id = location.hash.slice(1);
  try { id = decodeURIComponent(id); } catch (malformed) { /* shown as it stands */ }
  page = PAGES.get(id) || null;
  player.pause();
  find("summary").hidden = page !== null;
  find("recording").hidden = page === null;
  if (page) showRecording();
  window.scrollTo(0, 0);
}

function showRecording() {
  find("name").textContent = page.name;
  const about = [clock(page.duration_s), page.status, `${page.words.length} words`];
  if (page.language) about.push(page.language);
  if (page.confidence !== null) about.push(`confidence ${(100 * page.confidence).toFixed(1)}%`);
  if (page.wer !== null) about.push(`WER ${(100 * page.wer).toFixed(1)}%`);
  find("about").textContent = about.join(" \u00b7 ");
  find("reasons").replaceChildren(...page.reasons.map((reason) => element("li", reason)));
  find("truth").hidden = !page.reference;
  find("truth").querySelector("p").textContent = page.reference || "";
  showWords();
  showSound();
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function showWords() {
  let end_s = Infinity;
  spoken = null;
  spans = page.words.map(([text, start_s, word_end_s, confidence]) => {
    const span = element("span", text);
    span.className = `word ${certainty(confidence)}`;
    if (start_s - end_s > PAUSE_S) span.classList.add("pause");
    end_s = word_end_s;
    span.title = `${start_s.toFixed(2)} - ${word_end_s.toFixed(2)} s, ${(100 * confidence).toFixed(0)}%`;
    span.tabIndex = 0;
    span.dataset.start = start_s;
    return span;
  });
  find("words").replaceChildren(...spans.flatMap((span) => [span, " "]));
}

function showSound() {
  const sound = SOUNDS[page.id];
  find("sound").hidden = !sound;
  find("soundless").hidden = Boolean(sound);
  find("recording").querySelector(".hint").hidden = !sound;
  if (soundUrl) URL.revokeObjectURL(soundUrl);
  soundUrl = null;
  if (!sound) return player.removeAttribute("src");
  const bytes = Uint8Array.from(atob(sound), (letter) => letter.charCodeAt(0));
  soundUrl = URL.createObjectURL(new Blob([bytes], { type: "audio/mpeg" }));
  player.src = soundUrl;
  drawWaveform();
}

function playFrom(time_s) {
  if (!SOUNDS[page.id]) return;
  player.currentTime = time_s;
  player.play();
}

function drawWaveform() {
  if (!page || !page.peaks.length) return;
  const scale = window.devicePixelRatio || 1, width = waveform.clientWidth, height = waveform.clientHeight;
  waveform.width = width * scale;
  waveform.height = height * scale;
  const pen = waveform.getContext("2d"), style = getComputedStyle(document.documentElement);
  const at = (time_s) => time_s / page.duration_s * width;
  const paint = (color, start_s, end_s) => {
    pen.fillStyle = style.getPropertyValue(color);
    pen.fillRect(at(start_s), 0, Math.max(at(end_s) - at(start_s), 1), height);
  };
  pen.scale(scale, scale);
  page.speech.forEach(([start_s, end_s]) => paint("--speech", start_s, end_s));
  page.findings.filter((finding) => finding.guard !== "language").forEach((finding) => paint("--finding", finding.start_s, finding.end_s));
  const played = player.currentTime / page.duration_s * page.peaks.length, step = width / page.peaks.length;
  page.peaks.forEach((peak, index) => {
    const tall = Math.max(peak / 100 * height, 1);
    pen.fillStyle = style.getPropertyValue(index < played ? "--accent" : "--quiet");
    pen.fillRect(index * step, (height - tall) / 2, Math.max(step * 0.8, 0.5), tall);
  });
}

function followPlayer() {
  drawWaveform();
  const now_s = player.currentTime;
  let low = 0, high = page.words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (page.words[middle][1] <= now_s + 0.02) low = middle + 1; else high = middle;
  }
  if (spoken) spoken.classList.remove("spoken");
  spoken = spans[low - 1] || null;
  if (spoken) spoken.classList.add("spoken");
}

function everyFrame() {
  if (player.paused || !page) return;
  followPlayer();
  requestAnimationFrame(everyFrame);
}

function search() {
  const wanted = find("search").value.toLowerCase();
  for (const row of document.querySelectorAll("#recordings tbody tr")) {
    const { name, words } = PAGES.get(row.dataset.id);
    const text = `${name} ${words.map((word) => word[0]).join(" ")}`.toLowerCase();
    row.hidden = !text.includes(wanted);
  }
}

find("words").addEventListener("click", (event) => {
  if (event.target.dataset.start) playFrom(Number(event.target.dataset.start));
});
find("words").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.dataset.start) return;
  playFrom(Number(event.target.dataset.start));
});
waveform.addEventListener("click", (event) => playFrom(event.offsetX / waveform.clientWidth * page.duration_s));
player.addEventListener("play", everyFrame);
player.addEventListener("seeked", () => page && followPlayer());
window.addEventListener("resize", drawWaveform);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawWaveform);
window.addEventListener("hashchange", showAddressed);
if (find("search")) find("search").addEventListener("input", search);
showAddressed();
