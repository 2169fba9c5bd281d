"use strict";
const PAGES = new Map(JSON.parse(document.getElementById("data").textContent).map((page) => [page.id, page]));
const AUDIO = JSON.parse(document.getElementById("audio-data").textContent);
const HIGH_CONFIDENCE = 0.9, MEDIUM_CONFIDENCE = 0.6, PAUSE_S = 0.8, PARAGRAPH_PAUSE_S = 2, PARAGRAPH_WORDS = 40;
// A browser takes seconds to lay out a table of thousands of rows.
const MAX_ROWS = 500;
const find = (id) => document.getElementById(id);
const player = find("player"), waveform = find("waveform");
let page = null, spans = [], byStart = [], playing = null, audioUrl = null;

function clock(time_s) {
  const seconds = Math.round(time_s), pad = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
  return hours ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`;
}

function confidenceLevel(confidence) {
  return confidence >= HIGH_CONFIDENCE ? "high" : confidence >= MEDIUM_CONFIDENCE ? "medium" : "low";
}

function showFromHash() {
  let id = location.hash.slice(1);
  try { id = decodeURIComponent(id); } catch (malformed) { /* use it undecoded */ }
  page = PAGES.get(id) || null;
  player.pause();
  find("summary").hidden = page !== null;
  find("recording").hidden = page === null;
  if (page) showRecording();
  window.scrollTo(0, 0);
}

function showRecording() {
  const nameStart = page.name.lastIndexOf("/") + 1;
  showPath(find("name"), page.name.slice(nameStart));
  showPath(find("folder"), page.name.slice(0, nameStart));
  const isHeard = page.status !== "failed";
  const about = isHeard ? [clock(page.duration_s), `${page.words.length} word${page.words.length === 1 ? "" : "s"}`] : [];
  find("words").parentElement.hidden = !page.words.length && !page.reference;
  if (page.language) about.push(page.language);
  if (page.confidence !== null) about.push(`confidence ${(100 * page.confidence).toFixed(1)}%`);
  if (page.wer !== null) about.push(`WER ${(100 * page.wer).toFixed(1)}%`);
  const status = element("span", page.status);
  status.className = `status ${page.status}`;
  find("about").replaceChildren(status, ...about.map((part) => element("span", part)));
  find("reasons").replaceChildren(...page.reasons.map((reason) => element("li", reason)));
  const shown = rows().filter((row) => row.isFound).map((row) => row.dataset.id), index = shown.indexOf(page.id);
  setLink(find("previous"), shown[index - 1]);
  setLink(find("next"), shown[index + 1]);
  find("reference").hidden = !page.reference;
  find("reference").querySelector("p").textContent = page.reference || "";
  showWords();
  showSpeakers();
  showAudio();
}

/** Lines of a path break after a slash. */
function showPath(holder, path) {
  holder.replaceChildren();
  for (const part of path.split(/(?<=\/)/)) holder.append(part, document.createElement("wbr"));
}

function setLink(link, id) {
  link.hidden = !id;
  link.href = `#${id || ""}`;
}

function rows() {
  return [...document.querySelectorAll("#recordings tbody tr")];
}

function element(tag, text) {
  const created = document.createElement(tag);
  created.textContent = text;
  return created;
}

function showWords() {
  let end_s = Infinity;
  playing = null;
  spans = page.words.map(([text, start_s, word_end_s, confidence]) => {
    const span = element("span", text);
    span.className = `word ${confidenceLevel(confidence)}`;
    if (start_s - end_s > PAUSE_S) span.classList.add("pause");
    end_s = word_end_s;
    span.title = `${start_s.toFixed(2)} - ${word_end_s.toFixed(2)} s, ${(100 * confidence).toFixed(0)}%`;
    span.tabIndex = 0;
    span.dataset.start = start_s;
    return span;
  });
  // The words of several speakers stand by turns, which may overlap.
  byStart = page.words.map((word, index) => [word[1], index]).sort((one, other) => one[0] - other[0]);
  find("words").replaceChildren(...paragraphs());
}

function paragraphs() {
  const result = [];
  let line = null, num_words = 0, end_s = -Infinity, before = null;
  page.words.forEach(([text, start_s, word_end_s, confidence, speaker], index) => {
    const ended = index && /[.?!\u2026]["'\u201d)]*$/.test(page.words[index - 1][0]);
    if (!line || speaker !== before || start_s - end_s > PARAGRAPH_PAUSE_S || (ended && num_words >= PARAGRAPH_WORDS)) {
      const paragraph = document.createElement("p");
      line = document.createElement("div");
      paragraph.append(element("time", clock(start_s)), line);
      if (speaker !== undefined) {
        paragraph.dataset.speaker = speaker;
        paragraph.style.setProperty("--speaker", `var(${speakerColour(speaker)})`);
      }
      if (speaker !== undefined && speaker !== before) line.append(element("b", page.speakers[speaker]), " ");
      result.push(paragraph);
      num_words = 0;
    }
    line.append(spans[index], " ");
    num_words += 1;
    end_s = Math.min(word_end_s, start_s + 1);
    before = speaker;
  });
  return result;
}

function showAudio() {
  const audio = AUDIO[page.id];
  find("audio").hidden = !audio;
  find("no-audio").hidden = Boolean(audio);
  find("recording").querySelector(".hint").hidden = !audio;
  if (audioUrl) URL.revokeObjectURL(audioUrl);
  audioUrl = null;
  if (!audio) return player.removeAttribute("src");
  const bytes = Uint8Array.from(atob(audio), (letter) => letter.charCodeAt(0));
  audioUrl = URL.createObjectURL(new Blob([bytes], { type: "audio/mpeg" }));
  player.src = audioUrl;
  drawWaveform();
}

function playFrom(time_s) {
  if (!AUDIO[page.id]) return;
  onlySpeaker = null;
  markPlayedSpeaker();
  player.currentTime = time_s;
  player.play();
}

function drawWaveform() {
  if (!page || !page.peaks.length) return;
  const scale = window.devicePixelRatio || 1, width = waveform.clientWidth, height = waveform.clientHeight;
  waveform.width = width * scale;
  waveform.height = height * scale;
  const context = waveform.getContext("2d"), style = getComputedStyle(document.documentElement);
  const at = (time_s) => time_s / page.duration_s * width;
  const paint = (color, start_s, end_s) => {
    context.fillStyle = style.getPropertyValue(color);
    context.fillRect(at(start_s), 0, Math.max(at(end_s) - at(start_s), 1), height);
  };
  context.scale(scale, scale);
  page.speech.forEach(([start_s, end_s]) => paint("--speech", start_s, end_s));
  page.findings.filter((finding) => finding.guard !== "language").forEach((finding) => paint("--finding", finding.start_s, finding.end_s));
  const played = player.currentTime / page.duration_s * page.peaks.length, step = width / page.peaks.length;
  page.peaks.forEach((peak, index) => {
    const tall = Math.max(peak / 100 * height, 1);
    context.fillStyle = style.getPropertyValue(index < played ? "--accent" : "--muted");
    context.fillRect(index * step, (height - tall) / 2, Math.max(step * 0.8, 0.5), tall);
  });
  drawSpeakers(context, at, height);
}

function followPlayer() {
  drawWaveform();
  const now_s = player.currentTime;
  let low = 0, high = byStart.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (byStart[middle][0] <= now_s + 0.02) low = middle + 1; else high = middle;
  }
  if (playing) playing.classList.remove("playing");
  playing = low ? spans[byStart[low - 1][1]] : null;
  if (playing) playing.classList.add("playing");
}

function onFrame() {
  if (player.paused || !page) return;
  keepToSpeaker();
  followPlayer();
  requestAnimationFrame(onFrame);
}

/** What can be searched for in each recording, in lower case; made once, at the first search. */
const texts = new Map();

function textsOf(id) {
  if (!texts.has(id)) {
    const { name, words, reasons, findings, reference } = PAGES.get(id);
    const spoken = words.map((word) => word[0]).join(" ");
    texts.set(id, {
      all: `${name} ${spoken} ${reasons.join(" ")}`.toLowerCase(), name: name.toLowerCase(), word: spoken.toLowerCase(),
      reason: reasons.join(" ").toLowerCase(), reference: (reference || "").toLowerCase(),
      guard: findings.map((finding) => finding.guard).join(" ").toLowerCase(),
    });
  }
  return texts.get(id);
}

let searchedIn = "all", maxRows = MAX_ROWS;

function search() {
  const query = find("search").value.toLowerCase();
  const pressed = [...document.querySelectorAll("#filters [aria-pressed=true]")].map((button) => button.dataset.status);
  let num_found = 0;
  for (const row of rows()) {
    const isFound = !query || textsOf(row.dataset.id)[searchedIn].includes(query);
    row.isFound = isFound && (pressed.length === 0 || pressed.includes(row.dataset.status));
    num_found += row.isFound;
    row.hidden = !row.isFound || num_found > maxRows;
  }
  find("none").hidden = num_found > 0;
  find("more").hidden = num_found <= maxRows;
  find("more").textContent = `Show all ${num_found.toLocaleString("en")}`;
}

/** Show the recordings behind a figure: those that hold a text in one of their fields. */
function showBehind(link) {
  document.querySelectorAll("#filters button").forEach((button) => button.setAttribute("aria-pressed", "false"));
  find("search").value = link.dataset.find || "";
  searchedIn = link.dataset.in || "all";
  search();
  const by = link.dataset.sort && document.querySelector(`#recordings th[data-by=${link.dataset.sort}]`);
  if (by) {
    by.removeAttribute("aria-sort");
    sortBy(by);
  }
  find("recordings").scrollIntoView();
}

function valueOf(row, head) {
  if (head.dataset.by) return row.dataset[head.dataset.by];
  const cell = row.cells[head.cellIndex];
  return cell.dataset.value ?? cell.textContent.trim();
}

function sortBy(head) {
  const isNumber = head.classList.contains("number"), body = head.closest("table").tBodies[0];
  const isDescending = head.getAttribute("aria-sort") === "ascending" || (isNumber && !head.hasAttribute("aria-sort"));
  head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
  const compare = new Intl.Collator().compare, sign = isDescending ? -1 : 1;
  const keyed = [...body.rows].map((row) => [valueOf(row, head), row]);
  keyed.sort(([a], [b]) => sign * (isNumber ? a - b : compare(a, b)));
  const sorted = document.createDocumentFragment();
  keyed.forEach(([, row]) => sorted.append(row));
  body.append(sorted);
  if (head.dataset.by) search();
}

find("words").addEventListener("click", (event) => {
  if (event.target.dataset.start) playFrom(Number(event.target.dataset.start));
});
find("words").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.dataset.start) return;
  playFrom(Number(event.target.dataset.start));
});
waveform.addEventListener("click", (event) => playFrom(event.offsetX / waveform.clientWidth * page.duration_s));
player.addEventListener("play", onFrame);
player.addEventListener("seeked", () => page && followPlayer());
window.addEventListener("resize", drawWaveform);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawWaveform);
window.addEventListener("hashchange", showFromHash);
if (find("search")) {
  search();
  find("more").addEventListener("click", () => {
    maxRows = Infinity;
    search();
  });
  find("search").addEventListener("input", () => {
    searchedIn = "all";
    search();
  });
}
for (const link of document.querySelectorAll("[data-find], [data-sort]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    showBehind(link);
  });
}
for (const button of document.querySelectorAll("#filters button")) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") === "true" ? "false" : "true");
    search();
  });
}
for (const head of document.querySelectorAll("#recordings th, .sortable th")) {
  head.addEventListener("click", () => sortBy(head));
  head.addEventListener("keydown", (event) => event.key === "Enter" && sortBy(head));
}
showFromHash();
