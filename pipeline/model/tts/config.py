"""Sizes and conventions of a text-to-speech checkpoint."""

from dataclasses import dataclass

from nightscribe.model.config import MimiConfig

# Text tokens with a meaning of their own. Id 0 is also the tokenizer's unknown piece.
NEW_WORD_ID, MAIN_SPEAKER_ID, OTHER_SPEAKER_ID = 0, 1, 2
ZERO_ID = -1  # an id whose embedding is zero
MAX_SPEAKERS = 5  # of a cross-attention source


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthConfig:
    """The depth transformer: the codes of one frame, one codebook after another."""

    dim: int
    num_heads: int
    num_layers: int
    ffn_dim: int  # hidden width of the gated feed-forward
    norm_eps: float
    weight_sets: tuple[int, ...]  # the set of weights that each codebook uses
    low_rank: int | None  # width of its embedding tables; None: as wide as the transformer

    @property
    def num_weight_sets(self) -> int:
        return max(self.weight_sets) + 1

    @property
    def embedding_dim(self) -> int:
        return self.dim if self.low_rank is None else self.low_rank


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupCondition:
    """A condition with one learned vector for each of a few values, added to every input."""

    name: str
    num_rows: int  # of its table, without the one for "no value"
    dim: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerCondition:
    """Voices as vectors that the backbone attends to."""

    name: str
    dim: int
    position_scale: float  # of the position code; 0: none


@dataclass(frozen=True, slots=True, kw_only=True)
class TextToSpeechConfig:
    """A whole checkpoint."""

    mimi: MimiConfig
    dim: int
    num_heads: int
    num_layers: int
    ffn_dim: int
    context: int
    rope_max_period: float
    norm_eps: float
    num_codebooks: int
    audio_card: int  # codes per codebook; id `audio_card` means "no audio yet"
    text_card: int
    text_card_out: int  # text ids that the model predicts
    codebook_delays: tuple[int, ...]  # steps that each codebook is behind the first
    has_second_stream: bool  # text tokens carry a second one: pieces of a later word
    words_ahead: int  # how many words the second stream is ahead; 0: no second stream
    depth: DepthConfig
    lookups: tuple[LookupCondition, ...]
    speakers: SpeakerCondition | None
    audio_delay_steps: int  # from a text token to its audio
    padding_id: int = 3
    voice_suffix: str = ""  # of the files that hold this model's voices

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def max_codebook_delay(self) -> int:
        return max(self.codebook_delays)

    @property
    def has_guidance_condition(self) -> bool:
        """Whether guidance is a condition; otherwise it takes a second, unconditioned pass."""
        return bool(self.guidance_values)

    @property
    def guidance_values(self) -> tuple[str, ...]:
        """What guidance may be as a condition."""
        return next((lookup.values for lookup in self.lookups if lookup.name == "cfg"), ())
