"""How many slots fit into memory: arithmetic from the sizes of a checkpoint, no torch."""

from dataclasses import dataclass, replace
from math import ceil

from nightscribe.engine.config import EngineConfig
from nightscribe.model.config import LanguageModelConfig, MimiConfig, SpeechToTextConfig
from nightscribe.model.precision import Precision

SMALLEST_BUCKET = 8  # slots; with fewer a step costs the same
# With more, a step over full rings slows down in proportion, and long streams take longer.
MAX_SLOTS = 256
MAX_SHORT_SLOTS = 1024  # where streams end before their rings are full
CPU_SLOTS = 8  # a CPU gains little from more
RESERVED_SHARE = 0.06  # of the memory: fragmentation, libraries, other small things
# Of the CUDA graphs of steps, an estimate: activations of the largest step, which all of them share
# (about 50 MB over 256 slots), workspaces of cuBLAS (32 MB for each CUDA stream), and 4 KB a node
# (24 graphs of up to 600 nodes: 60 MB); the rest is a margin. What encoding takes is `encoding`.
GRAPHS_BYTES = 576 << 20
ENCODE_BYTES_PER_S = 32 << 20  # of audio encoded at once: 64 channels at 24 kHz, five times
MAX_ENCODE_ROWS, MIN_ENCODE_ROWS = 64, 4  # streams encoded at once; more gain nothing
SHORT_ROWS = 8  # of a few frames each, as live streams have: a CPU encodes so many at once
ENCODE_SHARE = 1 / 16  # of the memory
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "float8": 1}
SCALE_BYTES = {"int8": 2, "float8": 2}  # for each vector in a cache
MATRIX_SCALE_BYTES = {"int8": 2, "float8": 4}  # for each row of a matrix
GROUP_BITS = 32 * 4 + 2 * 16  # of 32 int4 entries: the entries, a scale and a zero


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Bytes that a model takes on a device, in total and for each slot."""

    weights: int
    codec_weights: int
    cache_per_slot: int
    codec_state_per_slot: int
    encode_rows: int  # streams encoded at once
    encoding: int
    graphs: int
    useful_slots: int = MAX_SLOTS

    @property
    def fixed(self) -> int:
        return self.weights + self.codec_weights + self.encoding + self.graphs

    @property
    def per_slot(self) -> int:
        return self.cache_per_slot + self.codec_state_per_slot

    def num_slots(self, memory_bytes: float) -> int:
        """Useful slots that fit, a multiple of the smallest bucket; 0 if the model does not fit."""
        fitting = self.max_slots(memory_bytes)
        return min(self.useful_slots, fitting // SMALLEST_BUCKET * SMALLEST_BUCKET)

    def max_slots(self, memory_bytes: float) -> int:
        """Slots that fit into the memory, useful or not."""
        left_bytes = memory_bytes * (1 - RESERVED_SHARE) - self.fixed
        return max(0, int(left_bytes // self.per_slot))

    def describe(self, num_slots: int) -> str:
        """The parts of the budget, in one line for the log."""
        parts = {
            "weights": self.weights,
            "KV cache": num_slots * self.cache_per_slot,
            "codec": self.codec_weights + num_slots * self.codec_state_per_slot,
            "encoding": self.encoding,
            "graphs": self.graphs,
        }
        return ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in parts.items())


def memory_budget(
    config: SpeechToTextConfig,
    precision: Precision,
    round_steps: int,
    encode_rows: int,
    *,
    graphs_bytes: int = GRAPHS_BYTES,
    frames_per_pass: int = 1,
) -> MemoryBudget:
    """What a checkpoint takes in this precision; a round has `round_steps` or a few more."""
    language_model, mimi = config.language_model, config.mimi
    max_steps = frames_per_pass * ceil(round_steps / frames_per_pass)
    encoded_s = encode_rows * max_steps / mimi.frame_rate_hz
    codec_state = 4 * _codec_state(mimi, max_steps)
    return MemoryBudget(
        weights=_weight_bytes(language_model, precision),
        codec_weights=4 * _num_codec_weights(mimi),
        cache_per_slot=_cache_bytes(language_model, precision.cache, frames_per_pass),
        codec_state_per_slot=codec_state,
        encode_rows=encode_rows,
        # The state of the encoded streams is copied out of their slots, and there is a spare one.
        encoding=int(encoded_s * ENCODE_BYTES_PER_S)
        + (max(encode_rows, SHORT_ROWS) + 1) * codec_state,
        graphs=graphs_bytes,
    )


def encode_rows(memory_bytes: float, round_steps: int, frame_rate_hz: float) -> int:
    """Streams that are encoded at once on a GPU with this much memory."""
    row_bytes = round_steps / frame_rate_hz * ENCODE_BYTES_PER_S
    fitting = int(memory_bytes * ENCODE_SHARE // row_bytes)
    return min(MAX_ENCODE_ROWS, max(MIN_ENCODE_ROWS, fitting))


def budget_for(
    config: SpeechToTextConfig,
    precision: Precision,
    engine: EngineConfig,
    device_type: str,
    free_bytes: float,
) -> MemoryBudget:
    """What a checkpoint takes on a device of this type with this much free."""
    frames_per_pass, rows, graphs_bytes = engine.frames_per_pass or 1, 1, 0
    if device_type == "cuda":
        rows = encode_rows(free_bytes, engine.round_steps, config.mimi.frame_rate_hz)
        graphs_bytes = GRAPHS_BYTES
    budget = memory_budget(
        config,
        precision,
        engine.round_steps,
        rows,
        graphs_bytes=graphs_bytes,
        frames_per_pass=frames_per_pass,
    )
    return replace(budget, useful_slots=useful_slots(config, engine.max_stream_s))


def useful_slots(config: SpeechToTextConfig, max_stream_s: float | None) -> int:
    """As many as read of their rings what `MAX_SLOTS` full ones are, in steps of `MAX_SLOTS`."""
    if max_stream_s is None:
        return MAX_SLOTS
    context = config.language_model.context
    num_steps = 1 + config.num_frames(int(max_stream_s * config.mimi.sample_rate_hz))
    slots = int(MAX_SLOTS * context / mean_entries(num_steps, context))
    return max(MAX_SLOTS, min(MAX_SHORT_SLOTS, slots // MAX_SLOTS * MAX_SLOTS))


def mean_entries(num_steps: int, context: int) -> float:
    """Valid entries of the KV cache, on average over the steps of a stream."""
    growing = min(num_steps, context)
    return (growing * (growing + 1) / 2 + (num_steps - growing) * context) / num_steps


def fitting_slots(budget: MemoryBudget, device_type: str, free_bytes: float) -> int:
    """Useful slots that fit; 0 if the model itself does not."""
    if device_type == "cuda":
        return budget.num_slots(free_bytes)
    return min(CPU_SLOTS, budget.max_slots(free_bytes))


def _weight_bytes(config: LanguageModelConfig, precision: Precision) -> int:
    return (
        _layer_bytes(config, precision.weights)
        + _num_embeddings(config) * ITEM_BYTES[precision.activations]
        + _norm_bytes(config, precision.activations)
        + _head_bytes(config, precision.activations)
    )


def _layer_bytes(config: LanguageModelConfig, dtype: str) -> int:
    """Of the matrices of all layers."""
    dim, hidden = config.dim, config.ffn_dim
    # (rows, columns)
    shapes = ((3 * dim, dim), (dim, dim), (2 * hidden, dim), (dim, hidden))
    return config.num_layers * sum(_matrix_bytes(*shape, dtype) for shape in shapes)


def _matrix_bytes(num_rows: int, num_columns: int, dtype: str) -> int:
    if dtype == "int4":
        return num_rows * ceil(num_columns / 32) * GROUP_BITS // 8
    return num_rows * (num_columns * ITEM_BYTES[dtype] + MATRIX_SCALE_BYTES.get(dtype, 0))


def _head_bytes(config: LanguageModelConfig, activations: str) -> int:
    """Of the output heads, which are in fp32 where activations are fp16."""
    num_rows = config.text_card + config.num_vad_heads * config.vad_head_dim
    return num_rows * config.dim * (4 if activations == "float16" else ITEM_BYTES[activations])


def _norm_bytes(config: LanguageModelConfig, activations: str) -> int:
    """Of two norms a layer and the last, which has the dtype of the output heads."""
    last = 4 if activations == "float16" else ITEM_BYTES[activations]
    return config.dim * (2 * config.num_layers * ITEM_BYTES[activations] + last)


def _num_embeddings(config: LanguageModelConfig) -> int:
    rows = config.num_codebooks * (config.audio_card + 1) + config.num_text_rows
    return rows * config.dim


def _cache_bytes(config: LanguageModelConfig, dtype: str, frames_per_pass: int) -> int:
    capacity = config.context + frames_per_pass - 1
    num_vectors = 2 * config.num_layers * capacity * config.num_heads
    vector_bytes = config.head_dim * ITEM_BYTES[dtype] + SCALE_BYTES.get(dtype, 0)
    return int(num_vectors * vector_bytes)


def _num_codec_weights(config: MimiConfig) -> int:
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


def _codec_state(config: MimiConfig, max_frames: int) -> int:
    capacity = config.context + max_frames * config.positions_per_frame - 1
    return 2 * config.num_layers * capacity * config.dim
