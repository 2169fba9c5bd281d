"""Every threshold of the guards."""

from dataclasses import dataclass

from nightscribe.options import check_options, option


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardsConfig:
    """When a transcript is suspicious, and when a suspicious span is retried."""

    speech_margin_db: float = option(
        12.0, "voice activity: speech is at least this much louder than the noise around it"
    )
    quietest_speech_dbfs: float = option(-50.0, "voice activity: anything quieter is not speech")
    loudest_noise_dbfs: float = option(-25.0, "voice activity: anything louder is speech")
    min_modulation_db: float = option(
        6.0,
        "voice activity: sound whose level varies less within a second is music or noise; 0 takes "
        "every sound for speech",
    )
    min_speech_s: float = option(0.1, "voice activity: shorter sounds are not speech")
    min_pause_s: float = option(0.3, "voice activity: shorter pauses do not interrupt speech")

    max_word_s: float = option(1.0, "a word that lasts longer is taken to contain a pause", above=0)
    collar_s: float = option(0.5, "tolerance between the times of words and of speech")

    stall_s: float = option(8.0, "a stall is this much speech without a word", above=0)
    min_empty_speech_s: float = option(
        1.0, "a transcript without words is a stall if it has this much speech"
    )
    min_confirmed_speech: float = option(
        0.1,
        "a stall counts only where a network hears speech in this share of ten seconds, so that "
        "loud music is not transcribed again; 0: no network is asked",
        minimum=0,
        maximum=1,
    )
    hole_s: float = option(
        1.0, "speech without a word counts as uncovered if it is at least this long", above=0
    )
    min_coverage: float = option(
        0.8, "least share of the speech that has words", minimum=0, maximum=1
    )

    max_loop_words: int = option(8, "repetitions: longest repeated phrase, in words", above=0)
    min_loop_repeats: int = option(
        4, "repetitions: a phrase repeated this often in a row may be a loop", above=0
    )
    min_loop_words: int = option(12, "repetitions: a loop has at least this many words in all")

    min_silent_words: int = option(
        2, "hallucinations: this many words in a row where nobody speaks"
    )
    min_simultaneous_words: int = option(3, "hallucinations: this many words with the same time")

    min_language_words: int = option(15, "with fewer words the language is not identified")
    min_language_probability: float = option(
        0.9, "least probability of the identified language", minimum=0, maximum=1
    )

    max_retry_s: float = option(1800.0, "most audio of a shard that is retried")
    retry_context_s: float = option(2.0, "audio around a stalled span that is retried with it")
    retry_silence_s: float = option(2.0, "silence ahead of a span, from the second attempt on")
    retry_temperature: float = option(
        0.4, "sampling temperature of the third attempt; 0: no third attempt", minimum=0
    )

    def __post_init__(self) -> None:
        check_options(self, "guards")
        if self.quietest_speech_dbfs > self.loudest_noise_dbfs:
            raise ValueError(
                f"guards.quietest_speech_dbfs ({self.quietest_speech_dbfs}) must not exceed "
                f"guards.loudest_noise_dbfs ({self.loudest_noise_dbfs})"
            )
