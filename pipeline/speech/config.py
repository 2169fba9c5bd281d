"""Which text-to-speech model speaks, and how."""

from dataclasses import dataclass, field

from nightscribe.options import check_options, option

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechModelConfig:
    """A text-to-speech checkpoint."""

    checkpoint: str = field(
        metadata={
            "help": "folder or hub repository (ORGANISATION/NAME[@REVISION])",
            "common": True,
        }
    )
    voices: str = option(
        "kyutai/tts-voices", "hub repository or folder with the voices of this model"
    )
    guidance: float | None = option(
        2.0, "how closely the voice and the text are followed; null: no guidance", above=0
    )

    def __post_init__(self) -> None:
        check_options(self, "tts")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechConfig:
    """How texts are spoken."""

    device: str = option("auto", "auto, cpu, cuda or cuda:N", common=True)
    dtype: str = option("auto", "of weights and activations", choices=DTYPES)
    num_slots: int = option(16, "texts that are spoken at the same time", minimum=1)
    num_codebooks: int | None = option(
        None, "codebooks to sample: fewer are faster and sound rougher; null: all", minimum=1
    )
    temperature: float = option(0.6, "0 always takes the most likely", minimum=0)
    padding_bonus: float = option(0.0, "above 0 speech is slower, below 0 faster")
    word_padding: int = option(1, "steps of 80 ms at least between two words", minimum=0)

    def __post_init__(self) -> None:
        check_options(self, "speech")
