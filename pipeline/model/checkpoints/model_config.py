"""Which checkpoint to use, and settings that its files lack; `conf/model` fills it in."""

from dataclasses import dataclass, field

from nightscribe.options import check_options, option

START_TOKENS = ("bos", "text_card")


# Not frozen: OmegaConf cannot build frozen values of a mapping.
@dataclass(kw_only=True, slots=True)
class Domain:
    """Tokens that are forced at the start of a stream, so that the model knows its task."""

    forced_tokens: list[int] = option([], "text tokens forced at the start of every stream")
    num_pads: int = option(0, "padding tokens forced after them", minimum=0)

    def __post_init__(self) -> None:
        if self.num_pads < 0 or any(token < 0 for token in self.forced_tokens):
            raise ValueError(
                "forced_tokens and num_pads of a domain must not be negative, "
                f"got {self.forced_tokens} and {self.num_pads}"
            )

    def first_tokens(self, padding_id: int) -> tuple[int, ...]:
        """The tokens of the first steps, the start step included."""
        return (*self.forced_tokens, *[padding_id] * self.num_pads)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A checkpoint, and settings that its files lack."""

    name: str = option("custom", "name of this model, stored with every transcript")
    checkpoint: str = field(
        metadata={
            "help": "folder, file or hub repository (ORGANISATION/NAME[@REVISION])",
            "common": True,
        }
    )
    weights: str | None = option(
        None,
        "another file with weights of the language model: in the checkpoint, or "
        "hf://ORGANISATION/NAME/FILE",
    )
    lora: str | None = option(None, "LoRA adapter to merge into the weights, named likewise")
    delay_steps: int | None = option(
        None,
        "steps from a sound to its text; null: the checkpoint's delay, rounded",
        minimum=0,
    )
    delay_s: float | None = option(
        None, "seconds from a sound to its text; null: as the checkpoint says"
    )
    silence_prefix_s: float | None = option(
        None, "seconds of silence ahead of each recording; null: as the checkpoint says"
    )
    num_codebooks: int | None = option(
        None, "audio codebooks that the model reads; null: all of the checkpoint", minimum=1
    )
    start_token: str = option(
        "bos",
        "first text token of a model in the transformers layout: bos (the row of bos_token_id) or "
        "text_card (the row that native checkpoints start with)",
        choices=START_TOKENS,
    )
    domains: dict[str, Domain] = option({}, "tokens forced at the start, by name of the domain")
    domain: str | None = option(None, "domain of recordings that name none")

    def __post_init__(self) -> None:
        check_options(self, "model")
        if self.domain is not None and self.domain not in self.domains:
            raise ValueError(
                f"model.domain must be one of {', '.join(self.domains)}, not {self.domain}"
            )
        for name in ("delay_s", "silence_prefix_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 60:
                raise ValueError(f"model.{name} must be from 0 to 60, got {value}")
