"""A report with every section; the audio of its recordings has one beep per word."""

import numpy as np

from nightscribe.records import Finding, Span, SpeakerSpan, Word
from nightscribe.report.audio import embed_audio
from nightscribe.report.content import (
    EvaluationSection,
    Fact,
    ProgressPoint,
    RecordingPage,
    Report,
    Share,
    StageUtilisation,
)

RATE_HZ = 24_000
TEXT = (
    "We never thought that the weather could change so quickly in the middle of summer, but the "
    "captain had told everybody to come back before the evening. Nobody listened to <b>him</b>."
)


def beeping_words(text=TEXT, step_s=0.4):
    return tuple(
        Word(part, index * step_s, index * step_s + 0.3, 1 - (index % 7) * 0.1)
        for index, part in enumerate(text.split())
    )


def beeps(words, duration_s):
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    samples_N = np.zeros(len(time_s))
    for word in words:
        inside = (word.start_s <= time_s) & (time_s < word.end_s)
        samples_N[inside] = np.sin(2 * np.pi * 440 * time_s[inside])
    return (samples_N * 12_000).astype(np.int16)


def page(recording_id, name, **more):
    words = more.pop("words", beeping_words())
    duration_s = (words[-1].end_s if words else 0) + 3.0
    return RecordingPage(
        recording_id=recording_id,
        name=name,
        duration_s=duration_s,
        status=more.pop("status", "ok"),
        words=words,
        speech=(Span(0.0, duration_s - 3.0),),
        audio=embed_audio(beeps(words, duration_s), RATE_HZ),
        **more,
    )


def full_report():
    progress = [
        ProgressPoint(
            60.0 * minute, 18_000 * minute + 9_000 * np.sin(minute / 3), 0.97 - minute / 900
        )
        for minute in range(90)
    ]
    stall = Finding("stall", 4.0, 7.0, "9.0 s of speech without a word")
    return Report(
        title="Radio archive 1974",
        created="2026-11-21 06:10 UTC",
        headline=[
            Fact("recordings", "1,204"),
            Fact("hours of audio", "431.7"),
            Fact("times real time", "303"),
            Fact("occupancy", "96.1%"),
        ],
        facts=[
            Fact("model", "stt-2.6b-en, revision 4f2c"),
            Fact("input", "s3://archive/radio/1974/a-very-long-prefix-that-must-wrap-on-a-phone/"),
        ],
        progress=progress,
        stages=[StageUtilisation("decode", 4_000, 800), StageUtilisation("transcribe", 5_100, 120)],
        seconds_by_folder=[Share("1974/january", 793_440.0), Share("1974/february", 760_680.0)],
        recordings_by_status=[Share("ok", 1_190), Share("partial", 9), Share("failed", 5)],
        failures_by_reason=[Share("decode: corrupt", 4), Share("fetch: not_found", 1)],
        findings_by_guard=[Share("stall", 7), Share("loop", 2)],
        evaluation=EvaluationSection(
            [Fact("word error rate", "6.40% raw, 4.10% normalised")],
            [Share("their \u2192 there", 12)],
            [Share("the", 9)],
            [Share("uh", 4)],
        ),
        pages=[
            page(
                "a1",
                "1974/january/evening news.flac",
                language="en",
                word_error_rate=0.041,
                reference=TEXT,
            ),
            page(
                "b2",
                "1974/february/storm.mp3",
                status="partial",
                findings=(stall,),
                reasons=("stall at 4.0-7.0 s: 9.0 s of speech without a word",),
            ),
            page(
                "d4",
                "1974/call.wav",
                speakers=("Agent", "Caller"),
                words=(
                    Word("hello", 0.0, 0.4, 0.9, speaker="Agent"),
                    Word("there", 2.0, 2.4, 0.9, speaker="Agent"),
                    Word("yes", 1.0, 1.4, 0.9, speaker="Caller"),
                ),
                speaker_spans=(
                    SpeakerSpan("Agent", 0.0, 0.5),
                    SpeakerSpan("Caller", 1.0, 1.4),
                    SpeakerSpan("Agent", 2.0, 2.5),
                ),
            ),
            RecordingPage(
                recording_id="c3", name="1974/silent.wav", duration_s=3.0, status="empty"
            ),
        ],
        num_recordings=1_204,
    )
