"""Sizes and conventions of a checkpoint, in one vocabulary for every layout.

Every number comes from the checkpoint's own configuration files; nothing here is a constant of
one published model.
"""

from dataclasses import dataclass
from math import ceil, prod

# Silence after the last word is due, so that a late word is not lost.
FLUSH_AFTER_DELAY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class MimiConfig:
    """Mimi's encoder side: waveform to codes."""

    sample_rate_hz: int
    frame_rate_hz: float
    # SEANet
    num_filters: int
    encoder_ratios: tuple[int, ...]  # in encoder order, e.g. (4, 5, 6, 8)
    kernel_size: int
    residual_kernel_size: int
    last_kernel_size: int
    num_residual_layers: int
    dilation_base: int
    compress: int
    seanet_dim: int
    # transformer
    dim: int
    num_heads: int
    num_layers: int
    ffn_dim: int
    context: int
    rope_max_period: float
    norm_eps: float
    # quantizer
    codebook_dim: int
    codebook_size: int
    num_codebooks: int  # codebooks in the file; the language model may use only the first ones

    def __post_init__(self) -> None:
        if self.seanet_dim != self.dim:
            raise ValueError(
                f"the codec's convolutions give {self.seanet_dim} channels, "
                f"its transformer expects {self.dim}"
            )

    @property
    def hop_samples(self) -> int:
        """Samples per transformer position, before the downsampling convolution."""
        return prod(self.encoder_ratios)

    @property
    def frame_samples(self) -> int:
        samples = self.sample_rate_hz / self.frame_rate_hz
        if samples != int(samples) or int(samples) % self.hop_samples:
            raise ValueError(
                f"{self.sample_rate_hz} Hz at {self.frame_rate_hz} frames a second "
                f"is not a whole number of {self.hop_samples}-sample hops"
            )
        return int(samples)

    @property
    def positions_per_frame(self) -> int:
        """Transformer positions per frame (2 in the published Mimi)."""
        return self.frame_samples // self.hop_samples


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModelConfig:
    """The decoder-only transformer: codes and the last text token to the next text token."""

    dim: int
    num_heads: int
    num_layers: int
    ffn_dim: int  # hidden width of the gated feed-forward (5,632 in the published models)
    context: int  # keys a query sees, itself included
    rope_max_period: float
    norm_eps: float
    num_codebooks: int
    audio_card: int  # codes per codebook; id `audio_card` means "no audio yet"
    text_card: int  # text tokens that can be produced
    text_start_id: int  # row of the text table at step 0 (`text_card` in native checkpoints)
    num_text_rows: int  # rows of the text table
    num_vad_heads: int = 0
    vad_head_dim: int = 0
    padding_id: int = 3
    end_of_padding_id: int = 0

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechToTextConfig:
    """A whole checkpoint."""

    mimi: MimiConfig
    language_model: LanguageModelConfig
    delay_s: float  # from a sound to its text
    silence_prefix_s: float  # silence before the recording
    known_delay_steps: int | None = None  # where a model's delay is not `delay_s` rounded

    @property
    def delay_steps(self) -> int:
        """Steps from a sound to its text."""
        if self.known_delay_steps is not None:
            return self.known_delay_steps
        return round(self.delay_s * self.mimi.frame_rate_hz)

    @property
    def prefix_frames(self) -> int:
        """Silent frames before a recording."""
        return ceil(self.silence_prefix_s * self.mimi.frame_rate_hz)

    @property
    def flush_frames(self) -> int:
        """Silent frames after a recording, during which its last words come out."""
        delay_frames = max(self.delay_s * self.mimi.frame_rate_hz, self.delay_steps)
        return ceil(delay_frames + FLUSH_AFTER_DELAY_S * self.mimi.frame_rate_hz)

    def num_frames(self, num_samples: int) -> int:
        """Frames of a recording: prefix, the recording (its last frame padded), flush."""
        return self.prefix_frames + ceil(num_samples / self.mimi.frame_samples) + self.flush_frames
