"use strict";
const PAGES = new Map(JSON.parse(document.getElementById("data").textContent).map((page) => [page.id, page]));
const SOUNDS = JSON.parse(document.getElementById("sounds").textContent);
const SURE = 0.9, UNSURE = 0.6, PAUSE_S = 0.8, PARAGRAPH_PAUSE_S = 2, PARAGRAPH_WORDS = 40;
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
  const cut = page.name.lastIndexOf("/") + 1;
  find("name").textContent = page.name.slice(cut);
  find("folder").textContent = page.name.slice(0, cut);
  const about = [clock(page.duration_s), `${page.words.length} word${page.words.length === 1 ? "" : "s"}`];
  if (page.language) about.push(page.language);
  if (page.confidence !== null) about.push(`confidence ${(100 * page.confidence).toFixed(1)}%`);
  if (page.wer !== null) about.push(`WER ${(100 * page.wer).toFixed(1)}%`);
  const status = element("span", page.status);
  status.className = `status ${page.status}`;
  find("about").replaceChildren(status, ...about.map((part) => element("span", part)));
  find("reasons").replaceChildren(...page.reasons.map((reason) => element("li", reason)));
  const shown = rows().filter((row) => !row.hidden).map((row) => row.dataset.id), here = shown.indexOf(page.id);
  pointTo(find("previous"), shown[here - 1]);
  pointTo(find("next"), shown[here + 1]);
  find("truth").hidden = !page.reference;
  find("truth").querySelector("p").textContent = page.reference || "";
  showWords();
  showSound();
}

function pointTo(link, id) {
  link.hidden = !id;
  link.href = `#${id || ""}`;
}

function rows() {
  return [...document.querySelectorAll("#recordings tbody tr")];
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
  find("words").replaceChildren(...paragraphs());
}

function paragraphs() {
  const made = [];
  let line = null, num_words = 0, end_s = -Infinity;
  page.words.forEach(([text, start_s, word_end_s], index) => {
    const ended = index && /[.?!\u2026]["'\u201d)]*$/.test(page.words[index - 1][0]);
    if (!line || start_s - end_s > PARAGRAPH_PAUSE_S || (ended && num_words >= PARAGRAPH_WORDS)) {
      const paragraph = document.createElement("p");
      line = document.createElement("div");
      paragraph.append(element("time", clock(start_s)), line);
      made.push(paragraph);
      num_words = 0;
    }
    line.append(spans[index], " ");
    num_words += 1;
    end_s = Math.min(word_end_s, start_s + 1);
  });
  return made;
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
  const pressed = [...document.querySelectorAll("#filters [aria-pressed=true]")].map((button) => button.dataset.status);
  for (const row of rows()) {
    const { name, status, words } = PAGES.get(row.dataset.id);
    const text = `${name} ${words.map((word) => word[0]).join(" ")}`.toLowerCase();
    row.hidden = !text.includes(wanted) || (pressed.length > 0 && !pressed.includes(status));
  }
}

function sortBy(head) {
  const by = head.dataset.by, isNumber = head.classList.contains("number");
  const down = head.getAttribute("aria-sort") === "ascending" || (isNumber && !head.hasAttribute("aria-sort"));
  head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const order = (a, b) => isNumber ? a.dataset[by] - b.dataset[by] : a.dataset[by].localeCompare(b.dataset[by]);
  const sorted = rows().sort((a, b) => down ? order(b, a) : order(a, b));
  document.querySelector("#recordings tbody").append(...sorted);
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
for (const button of document.querySelectorAll("#filters button")) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") === "true" ? "false" : "true");
    search();
  });
}
for (const head of document.querySelectorAll("#recordings th")) {
  head.addEventListener("click", () => sortBy(head));
  head.addEventListener("keydown", (event) => event.key === "Enter" && sortBy(head));
}
showAddressed();
