"""What the engine runs on, and how wide."""

from dataclasses import dataclass, field

NUMBERS = ("auto", "float32", "bfloat16", "float16")
DTYPES = (*NUMBERS, "int8", "int4")
CACHES = (*NUMBERS, "int8", "float8")
TF32 = ("none", "convolutions", "all")
MOST_FRAMES_PER_PASS = 8  # a pass of more costs as much more as it is right more often


@dataclass(kw_only=True, slots=True)
class EngineConfig:
    """Where the model lives and how many streams it hears at once."""

    device: str = field(
        default="auto",
        metadata={"help": "cpu, cuda, cuda:1, ...; auto is the first NVIDIA GPU, else the CPU"},
    )
    dtype: str = field(
        default="auto",
        metadata={
            "help": "numbers of the language model; auto is bfloat16 on a GPU (float16 before "
            "Ampere), float32 on a CPU; int8 and int4 keep its matrices alone so small",
            "choices": DTYPES,
        },
    )
    cache: str = field(
        default="auto",
        metadata={
            "help": "numbers of the keys and values it remembers; auto is those of the language "
            "model, int8 and float8 (GPUs from Ada on) take half of bfloat16's memory",
            "choices": CACHES,
        },
    )
    tf32: str = field(
        default="convolutions",
        metadata={
            "help": "products of float32 that a GPU may round to TF32, quicker but for some codes "
            "that come out otherwise: none, convolutions (as the reference runs), or all",
            "choices": TF32,
        },
    )
    num_slots: int | None = field(
        default=None, metadata={"help": "streams heard at once; null fills the memory at hand"}
    )

    gpu_share: float = field(
        default=1.0,
        metadata={
            "help": "of the GPU's memory that may be filled; where cluster.gpus_per_actor is less "
            "than one GPU, no more than that"
        },
    )

    round_steps: int = field(
        default=25, metadata={"help": "steps between two looks at what was said"}
    )
    frames_per_pass: int | None = field(
        default=None,
        metadata={
            "help": "frames a stream hears at once, the words between them guessed and, where "
            "wrong, heard again: the same words, sooner or later as the machine will have it; "
            "null: 1, but 6 for a single file on a CPU in float32"
        },
    )
    graph: bool = field(
        default=True, metadata={"help": "on a GPU, replay recorded steps instead of calling them"}
    )
    reproducible: bool = field(
        default=False,
        metadata={
            "help": "always run over all slots: what a stream says in fewer bits than float32 then "
            "depends on no neighbour either"
        },
    )

    def __post_init__(self) -> None:
        if self.round_steps < 1:
            raise ValueError(f"engine.round_steps must be positive, not {self.round_steps}")
        frames_per_pass = 1 if self.frames_per_pass is None else self.frames_per_pass
        if not 1 <= frames_per_pass <= MOST_FRAMES_PER_PASS:
            raise ValueError(
                f"engine.frames_per_pass must be from 1 to {MOST_FRAMES_PER_PASS}, "
                f"not {self.frames_per_pass}"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"engine.dtype must be one of {', '.join(DTYPES)}, not {self.dtype}")
        if self.cache not in CACHES:
            raise ValueError(f"engine.cache must be one of {', '.join(CACHES)}, not {self.cache}")
        if not 0 < self.gpu_share <= 1:
            raise ValueError(
                f"engine.gpu_share must be above 0 and at most 1, not {self.gpu_share}"
            )
        if self.tf32 not in TF32:
            raise ValueError(f"engine.tf32 must be one of {', '.join(TF32)}, not {self.tf32}")
        if self.num_slots is not None and self.num_slots < 1:
            raise ValueError(f"engine.num_slots must be positive, not {self.num_slots}")
