"""Which model to use and how it is spoken to; what `conf/model` fills in."""

from dataclasses import dataclass, field

START_TOKENS = ("bos", "text_card")


@dataclass(kw_only=True, slots=True)
class Domain:
    """What a stream is made to say first, so that the model knows its task."""

    forced_tokens: list[int] = field(
        default_factory=list, metadata={"help": "text tokens that every stream says first"}
    )
    num_pads: int = field(default=0, metadata={"help": "padding tokens that are forced after them"})

    def __post_init__(self) -> None:
        if self.num_pads < 0 or any(token < 0 for token in self.forced_tokens):
            raise ValueError(
                f"a domain takes tokens and a number of pads of 0 or above, "
                f"got {self.forced_tokens} and {self.num_pads}"
            )

    def first_tokens(self, padding_id: int) -> tuple[int, ...]:
        """The tokens said at the first steps, the start step included."""
        return (*self.forced_tokens, *[padding_id] * self.num_pads)


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """A checkpoint, and what its files leave unsaid."""

    name: str = field(default="custom", metadata={"help": "name of this model"})
    checkpoint: str = field(
        metadata={"help": "folder, file or hub repository (ORGANISATION/NAME[@REVISION])"}
    )
    weights: str | None = field(
        default=None,
        metadata={
            "help": "another file of language model weights: in the checkpoint, or "
            "hf://ORGANISATION/NAME/FILE"
        },
    )
    lora: str | None = field(
        default=None, metadata={"help": "adapter merged into the weights, named likewise"}
    )
    delay_steps: int | None = field(
        default=None,
        metadata={"help": "steps from a sound to its text; null: the checkpoint's delay, rounded"},
    )
    delay_s: float | None = field(
        default=None,
        metadata={"help": "seconds from a sound to its text; null: as the checkpoint says"},
    )
    silence_prefix_s: float | None = field(
        default=None,
        metadata={
            "help": "silence heard before each recording, in seconds; null: as the checkpoint says"
        },
    )
    num_codebooks: int | None = field(
        default=None,
        metadata={"help": "codebooks of the codec that are heard; null: all the checkpoint has"},
    )
    start_token: str = field(
        default="bos",
        metadata={
            "help": "text heard first by a model in the transformers layout: bos (the row "
            "of bos_token_id) or text_card (the row that native checkpoints start with)"
        },
    )
    domains: dict[str, Domain] = field(
        default_factory=dict,
        metadata={"help": "kinds of recordings by name, and what the model is told for each"},
    )
    domain: str | None = field(
        default=None, metadata={"help": "domain of recordings that name none"}
    )

    def __post_init__(self) -> None:
        if self.start_token not in START_TOKENS:
            raise ValueError(
                f"start_token must be one of {', '.join(START_TOKENS)}, got {self.start_token!r}"
            )
        if self.domain is not None and self.domain not in self.domains:
            raise ValueError(f"domain {self.domain!r} is not one of {', '.join(self.domains)}")
        for name, least in (("delay_steps", 0), ("num_codebooks", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be {least} or more, got {value}")
        for name in ("delay_s", "silence_prefix_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 60:
                raise ValueError(f"{name} must be from 0 to 60, got {value}")
