"""Metrics of text to speech, beside those of speech to text."""

from dataclasses import dataclass, field

from nightscribe.serving.metrics import Histogram, LabelledCounter, Value

FIRST_SOUND_BUCKETS_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)


@dataclass(slots=True)
class SpeechMetrics:
    """What `/metrics` says about texts."""

    connects: Value = field(
        default_factory=lambda: Value(
            "tts_connect", "counter", "Requests for speech, rejected ones included."
        )
    )
    open_texts: Value = field(
        default_factory=lambda: Value("tts_open_texts", "gauge", "Texts that are being spoken.")
    )
    audio_s: Value = field(
        default_factory=lambda: Value("tts_audio_seconds", "counter", "Seconds of audio made.")
    )
    first_sound: Histogram = field(
        default_factory=lambda: Histogram(
            "tts_first_sound",
            "Seconds from the first text of a request to its first sound.",
            FIRST_SOUND_BUCKETS_S,
        )
    )
    ends: LabelledCounter = field(
        default_factory=lambda: LabelledCounter("tts_ends", "reason", "Texts by how they ended.")
    )
    rejects: LabelledCounter = field(
        default_factory=lambda: LabelledCounter(
            "tts_rejects", "reason", "Requests that were refused."
        )
    )

    def text(self) -> str:
        every = (
            self.connects,
            self.open_texts,
            self.audio_s,
            self.first_sound,
            self.ends,
            self.rejects,
        )
        return "\n".join([line for one in every for line in one.lines()]) + "\n"
