"""Device, precision and batch size."""

from dataclasses import dataclass

from nightscribe.options import check_options, option

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
DTYPES = (*PRECISIONS, "int8", "int4", "float8")
KV_CACHE_DTYPES = (*PRECISIONS, "int8", "float8")
TF32 = ("none", "convolutions", "codec", "all")
# With more frames, wrong guesses cost more than right ones save.
MOST_FRAMES_PER_PASS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Where the model runs, in which precision, and how many streams it decodes at once."""

    device: str = option(
        "auto", "cpu, cuda, cuda:1, ...; auto: the first NVIDIA GPU, else the CPU", common=True
    )
    dtype: str = option(
        "auto",
        "precision of the language model; auto: bfloat16 on a GPU (float16 before Ampere), float32 "
        "on a CPU; int8 and int4 quantize the weights only, float8 (Ada or newer) also the inputs "
        "of their products",
        choices=DTYPES,
        common=True,
    )
    kv_cache_dtype: str = option(
        "auto",
        "precision of the KV cache; auto: that of the language model; int8 and float8 (Ada or "
        "newer) halve the memory of bfloat16",
        choices=KV_CACHE_DTYPES,
    )
    tf32: str = option(
        "convolutions",
        "float32 products that a GPU may round to TF32, which is faster and changes some audio "
        "codes: none, convolutions (as the reference implementation does), codec (also the "
        "products of its transformer) or all (also those of a language model in float32); never "
        "those of its quantizer",
        choices=TF32,
    )
    num_slots: int | None = option(
        None,
        "batch size: streams transcribed at once; null: as many as fit the memory",
        minimum=1,
        common=True,
    )
    max_stream_s: float | None = option(
        None,
        "the longest recording or shard to expect, in seconds; short ones leave a GPU room for up "
        "to 1024 slots instead of 256; longer ones still work; null: any length",
        above=0,
    )
    gpu_memory_share: float = option(
        1.0,
        "share of the GPU memory to fill; at most cluster.gpus_per_actor where that is below 1",
        above=0,
        maximum=1,
    )
    round_steps: int = option(
        25, "steps in a round: how many run between two reads of the tokens", minimum=1
    )
    frames_per_pass: int | None = option(
        None,
        "frames of a stream per forward pass, by speculative decoding: tokens in between are "
        "drafts, and rejected ones are computed again, so the words stay the same; null: 6 for a "
        "single file on a CPU in float32, else 1",
        minimum=1,
        maximum=MOST_FRAMES_PER_PASS,
    )
    cuda_graphs: bool = option(True, "on a GPU, capture steps as CUDA graphs and replay them")
    reproducible: bool = option(
        False,
        "always compute all slots, so that results in low precision do not depend on batch "
        "neighbours",
    )

    def __post_init__(self) -> None:
        check_options(self, "engine")
