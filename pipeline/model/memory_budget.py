"""How many slots fit a memory: arithmetic from the sizes of a checkpoint, no tensor is made."""

from dataclasses import dataclass
from math import ceil

from nightscribe.model.config import LanguageModelConfig, MimiConfig, SpeechToTextConfig
from nightscribe.model.precision import Numbers

SMALLEST_BUCKET = 8  # slots; below, a step costs the same
MOST_SLOTS = 256  # beyond, a step is as much slower as it is wider, and long streams take longer
KEPT_FREE = 0.06  # of the memory: fragments, libraries, other small things
GRAPHS_BYTES = 576 << 20  # of all recorded steps, which share what they compute in
ENCODE_BYTES_PER_S = 32 << 20  # of sound that is encoded at once; 64 channels at 24 kHz, five times
MOST_ENCODE_ROWS, LEAST_ENCODE_ROWS = 64, 4  # streams encoded at once; more gain nothing
ENCODE_SHARE = 1 / 16  # of the memory
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "float8": 1}
SCALE_BYTES = {"int8": 2, "float8": 2}  # of each row of a matrix, of each vector in a cache
GROUP_BITS = 32 * 4 + 2 * 16  # of 32 entries in int4: these, a scale and a zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes that a model takes on a device, in all and for each slot."""

    weights: int
    codec_weights: int
    cache_per_slot: int
    codec_state_per_slot: int
    encode_rows: int  # streams encoded at once
    encoding: int
    graphs: int

    @property
    def fixed(self) -> int:
        return self.weights + self.codec_weights + self.encoding + self.graphs

    @property
    def per_slot(self) -> int:
        return self.cache_per_slot + self.codec_state_per_slot

    def num_slots(self, memory_bytes: float) -> int:
        """Slots worth having that fit, in whole smallest buckets; 0 if the model does not fit."""
        fitting = self.most_slots(memory_bytes)
        return min(MOST_SLOTS, fitting // SMALLEST_BUCKET * SMALLEST_BUCKET)

    def most_slots(self, memory_bytes: float) -> int:
        """Slots that the memory would hold, useful or not."""
        room = memory_bytes * (1 - KEPT_FREE) - self.fixed
        return max(0, int(room // self.per_slot))

    def told(self, num_slots: int) -> str:
        """The bill, in one line for the log."""
        parts = {
            "weights": self.weights,
            "keys and values": num_slots * self.cache_per_slot,
            "codec": self.codec_weights + num_slots * self.codec_state_per_slot,
            "encoding": self.encoding,
            "graphs": self.graphs,
        }
        return ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in parts.items())


def footprint(
    config: SpeechToTextConfig,
    numbers: Numbers,
    round_steps: int,
    encode_rows: int,
    *,
    graphs_bytes: int = GRAPHS_BYTES,
    frames_per_pass: int = 1,
) -> Footprint:
    """What a checkpoint takes in these numbers; a round has so many steps, or a few more."""
    language_model, mimi = config.language_model, config.mimi
    most_steps = frames_per_pass * ceil(round_steps / frames_per_pass)
    encoded_s = encode_rows * most_steps / mimi.frame_rate_hz
    codec_state = 4 * _codec_state(mimi, most_steps)
    return Footprint(
        weights=_weight_bytes(language_model, numbers),
        codec_weights=4 * _codec_sizes(mimi),
        cache_per_slot=_cached_bytes(language_model, numbers.cache, frames_per_pass),
        codec_state_per_slot=codec_state,
        encode_rows=encode_rows,
        # The state of what is encoded is copied out of its slots.
        encoding=int(encoded_s * ENCODE_BYTES_PER_S) + encode_rows * codec_state,
        graphs=graphs_bytes,
    )


def encode_rows(memory_bytes: float, round_steps: int, frame_rate_hz: float) -> int:
    """Streams that are encoded at once on a GPU of so much memory."""
    row_bytes = round_steps / frame_rate_hz * ENCODE_BYTES_PER_S
    fitting = int(memory_bytes * ENCODE_SHARE // row_bytes)
    return min(MOST_ENCODE_ROWS, max(LEAST_ENCODE_ROWS, fitting))


def _weight_bytes(config: LanguageModelConfig, numbers: Numbers) -> int:
    return (
        _layer_bytes(config, numbers.weights)
        + _table_sizes(config) * ITEM_BYTES[numbers.activations]
        + _norm_bytes(config, numbers.activations)
        + _head_bytes(config, numbers.activations)
    )


def _layer_bytes(config: LanguageModelConfig, numbers: str) -> int:
    """Of the matrices of all layers, as (rows, columns)."""
    dim, hidden = config.dim, config.ffn_dim
    shapes = ((3 * dim, dim), (dim, dim), (2 * hidden, dim), (dim, hidden))
    return config.num_layers * sum(_matrix_bytes(*shape, numbers) for shape in shapes)


def _matrix_bytes(num_rows: int, num_columns: int, numbers: str) -> int:
    if numbers == "int4":
        return num_rows * ceil(num_columns / 32) * GROUP_BITS // 8
    return num_rows * (num_columns * ITEM_BYTES[numbers] + SCALE_BYTES.get(numbers, 0))


def _head_bytes(config: LanguageModelConfig, activations: str) -> int:
    """Of the last products, which are made in fp32 where activations are fp16."""
    num_rows = config.text_card + config.num_extra_heads * config.extra_head_dim
    return num_rows * config.dim * (4 if activations == "float16" else ITEM_BYTES[activations])


def _norm_bytes(config: LanguageModelConfig, activations: str) -> int:
    """Of two norms a layer and the last, which belongs to the head."""
    last = 4 if activations == "float16" else ITEM_BYTES[activations]
    return config.dim * (2 * config.num_layers * ITEM_BYTES[activations] + last)


def _table_sizes(config: LanguageModelConfig) -> int:
    rows = config.num_codebooks * (config.audio_card + 1) + config.num_text_rows
    return rows * config.dim


def _cached_bytes(config: LanguageModelConfig, numbers: str, frames_per_pass: int) -> int:
    capacity = config.context + frames_per_pass - 1
    num_vectors = 2 * config.num_layers * capacity * config.num_heads
    vector_bytes = config.head_dim * ITEM_BYTES[numbers] + SCALE_BYTES.get(numbers, 0)
    return int(num_vectors * vector_bytes)


def _codec_sizes(config: MimiConfig) -> int:
    layer = 4 * config.dim**2 + 2 * config.dim * config.ffn_dim
    books = config.num_codebooks * config.codebook_size * config.codebook_dim
    convolutions, channels = 0, config.num_filters
    for ratio in config.encoder_ratios:
        middle = channels // config.compress
        convolutions += channels * middle * (config.residual_kernel_size + 1)
        convolutions += 2 * channels * channels * 2 * ratio
        channels *= 2
    convolutions += channels * config.seanet_dim * config.last_kernel_size
    downsampling = config.seanet_dim * config.dim * 2 * config.positions_per_frame
    return config.num_layers * layer + books + convolutions + downsampling


def _codec_state(config: MimiConfig, most_frames: int) -> int:
    capacity = config.context + most_frames * config.positions_per_frame - 1
    return 2 * config.num_layers * capacity * config.dim
