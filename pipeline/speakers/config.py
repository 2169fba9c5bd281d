"""How speakers are told apart, in one recording and over an archive."""

from dataclasses import dataclass

from nightscribe.options import check_options, option


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeakersConfig:
    """Who speaks when."""

    is_on: bool = option(False, "tell speakers apart; speakers=on sets it")
    min: int = option(1, "fewest speakers of a recording", minimum=1, common=True)
    max: int | None = option(
        None, "most speakers of a recording; null: no limit", minimum=1, common=True
    )
    checkpoint: str = option(
        "models/speakers",
        "embedding.safetensors and segmentation.safetensors: a folder, or ORGANISATION/NAME or "
        "ORGANISATION/NAME@REVISION on the hub",
    )
    same_voice: float = option(
        0.45,
        "where there is less than a minute of speech: voices more alike than this, by cosine, "
        "are the same",
        above=0,
        maximum=1,
    )
    min_speaker_s: float = option(
        2.0, "a voice with less speech than this joins the most alike speaker", minimum=0
    )

    def __post_init__(self) -> None:
        check_options(self, "speakers")
        if self.max is not None and self.max < self.min:
            raise ValueError(f"speakers.max={self.max} is below speakers.min={self.min}")
