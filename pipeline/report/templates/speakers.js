"use strict";
/* Who speaks in a recording: a colour and the talk time of each speaker, a filter, and turns of one of them in a row. */
const NUM_SPEAKER_COLOURS = 8, JOINED_TURNS_S = 0.5, SPEAKER_STRIP_PX = 4;
let onlySpeaker = null;  // whose turns are played one after another; null: everything is played

function speakerColour(speaker) {
  return `--speaker-${speaker % NUM_SPEAKER_COLOURS}`;
}

/** The turns of one speaker, without the short pauses in them. */
function turnsOf(speaker) {
  const turns = [];
  for (const [whose, start_s, end_s] of page.spans) {
    if (whose !== speaker) continue;
    const last = turns[turns.length - 1];
    if (last && start_s - last[1] < JOINED_TURNS_S) last[1] = Math.max(last[1], end_s); else turns.push([start_s, end_s]);
  }
  return turns;
}

function showSpeakers() {
  onlySpeaker = null;
  const seconds = page.speakers.map(() => 0), numWords = page.speakers.map(() => 0);
  page.spans.forEach(([speaker, start_s, end_s]) => { seconds[speaker] += end_s - start_s; });
  page.words.forEach((word) => { if (word.length > 4) numWords[word[4]] += 1; });
  const longest_s = Math.max(...seconds, 1e-9);
  find("speakers").replaceChildren(...page.speakers.map((name, speaker) => {
    const row = document.createElement("li"), bar = element("span", ""), filled = element("i", "");
    row.style.setProperty("--speaker", `var(${speakerColour(speaker)})`);
    bar.className = "bar";
    filled.style.width = `${100 * seconds[speaker] / longest_s}%`;
    bar.append(filled);
    const words = `${numWords[speaker]} word${numWords[speaker] === 1 ? "" : "s"}`;
    row.append(speakerButton("name", name, "Show only this speaker", speaker), bar, element("span", `${clock(seconds[speaker])}, ${words}`));
    if (AUDIO[page.id]) row.append(speakerButton("turns", "Play", "Play only the turns of this speaker", speaker));
    return row;
  }));
  find("speakers").hidden = page.speakers.length === 0;
}

function speakerButton(kind, text, title, speaker) {
  const button = element("button", text);
  button.type = "button";
  button.className = kind;
  button.title = title;
  button.dataset.speaker = speaker;
  button.setAttribute("aria-pressed", "false");
  return button;
}

function pressedSpeakers() {
  return [...document.querySelectorAll("#speakers .name[aria-pressed=true]")].map((button) => button.dataset.speaker);
}

/** Hide what speakers say that are not pressed, if any are. */
function filterBySpeaker() {
  const pressed = pressedSpeakers();
  for (const paragraph of document.querySelectorAll("#words p")) {
    paragraph.hidden = pressed.length > 0 && !pressed.includes(paragraph.dataset.speaker);
  }
}

function playOnly(speaker) {
  const turns = speaker === null ? [] : turnsOf(speaker);
  if (turns.length) playFrom(turns[0][0]); else player.pause();
  onlySpeaker = turns.length ? speaker : null;
  markPlayedSpeaker();
}

function markPlayedSpeaker() {
  for (const button of document.querySelectorAll("#speakers .turns")) {
    const isPlayed = Number(button.dataset.speaker) === onlySpeaker;
    button.setAttribute("aria-pressed", String(isPlayed));
    button.textContent = isPlayed ? "Stop" : "Play";
  }
}

/** Go on to the next turn where somebody else speaks. */
function keepToSpeaker() {
  if (onlySpeaker === null || player.seeking) return;
  const now_s = player.currentTime, turn = turnsOf(onlySpeaker).find(([, end_s]) => end_s > now_s);
  if (!turn) playOnly(null);
  else if (now_s < turn[0] - 0.05) player.currentTime = turn[0];
}

/** A strip for each speaker at the foot of the waveform. */
function drawSpeakers(context, at, height) {
  const style = getComputedStyle(document.documentElement);
  page.spans.forEach(([speaker, start_s, end_s]) => {
    context.fillStyle = style.getPropertyValue(speakerColour(speaker));
    const top = height - SPEAKER_STRIP_PX * (Math.min(page.speakers.length, NUM_SPEAKER_COLOURS) - speaker % NUM_SPEAKER_COLOURS);
    context.fillRect(at(start_s), top, Math.max(at(end_s) - at(start_s), 1), SPEAKER_STRIP_PX - 1);
  });
}

document.getElementById("speakers").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const isPressed = button.getAttribute("aria-pressed") === "true", speaker = Number(button.dataset.speaker);
  if (button.className === "turns") return playOnly(isPressed ? null : speaker);
  button.setAttribute("aria-pressed", String(!isPressed));
  filterBySpeaker();
});
document.getElementById("player").addEventListener("timeupdate", () => keepToSpeaker());
