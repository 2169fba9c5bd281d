"""Every threshold of the guards."""

from dataclasses import dataclass, field
from typing import Any


def _option(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(kw_only=True, slots=True)
class GuardsConfig:
    """When a transcript is suspicious, and how often a suspicious span is decoded again."""

    speech_margin_db: float = _option(12.0, "speech is this much louder than the noise around it")
    quietest_speech_dbfs: float = _option(-50.0, "anything quieter is no speech")
    loudest_noise_dbfs: float = _option(-25.0, "anything louder is taken for speech")
    min_modulation_db: float = _option(
        6.0, "what rises and falls less within a second is music or noise; 0 takes all for speech"
    )
    min_speech_s: float = _option(0.1, "shorter sounds are no speech")
    min_pause_s: float = _option(0.3, "shorter pauses do not interrupt speech")

    max_word_s: float = _option(1.0, "a word that lasts longer is taken to contain a pause")
    collar_s: float = _option(0.5, "how far the times of words and speech may lie apart")

    stall_s: float = _option(8.0, "this much speech without a word is a stall")
    min_empty_speech_s: float = _option(1.0, "speech that a transcript without words stalled on")
    hole_s: float = _option(1.0, "this much speech without a word counts as not covered")
    min_coverage: float = _option(0.8, "the least share of speech that has words")

    max_loop_words: int = _option(8, "the longest phrase looked at for repetition")
    min_loop_repeats: int = _option(4, "a phrase said this often in a row may be a loop")
    min_loop_words: int = _option(12, "a loop has at least this many words in all")

    min_silent_words: int = _option(2, "this many words in a row over silence are made up")
    min_simultaneous_words: int = _option(3, "this many words that share one time are made up")

    min_language_words: int = _option(15, "fewer words do not tell a language")
    min_language_probability: float = _option(0.9, "how sure the language heard must be")

    max_redecoded_s: float = _option(1800.0, "most audio per shard that is decoded again")
    redecoding_context_s: float = _option(2.0, "audio heard again around a stalled span")
    redecoding_silence_s: float = _option(2.0, "silence ahead of a span from the second attempt on")
    redecoding_temperature: float = _option(
        0.4, "temperature at which the third attempt draws its tokens; 0 for no third attempt"
    )

    def __post_init__(self) -> None:
        for name in ("min_coverage", "min_language_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, got {getattr(self, name)}")
        for name in ("stall_s", "hole_s", "max_loop_words", "min_loop_repeats", "max_word_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.redecoding_temperature < 0:
            raise ValueError(
                f"redecoding_temperature is 0 or above, got {self.redecoding_temperature}"
            )
        if self.quietest_speech_dbfs > self.loudest_noise_dbfs:
            raise ValueError(
                f"quietest_speech_dbfs ({self.quietest_speech_dbfs}) must not exceed "
                f"loudest_noise_dbfs ({self.loudest_noise_dbfs})"
            )
