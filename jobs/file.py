"""`nightscribe file AUDIO`: one recording to words on the terminal, without Ray."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from nightscribe.audio.decode import DecodeConfig
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.jobs.command import run_job
from nightscribe.jobs.config import Job
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.rendering.document import RenderingConfig
from nightscribe.rendering.formats import FORMATS


@dataclass(kw_only=True, slots=True)
class PromptConfig:
    """What the model is told before it hears the recording; not every model minds."""

    text: str = field(default="", metadata={"help": "a text that is said first, as an example"})
    audio: str | None = field(
        default=None, metadata={"help": "a file that is heard first, as an example"}
    )


@dataclass(kw_only=True, slots=True)
class FileConfig:
    """Write down what is said in one file, of any format that ffmpeg reads."""

    audio: str = field(default=MISSING, metadata={"help": "the file; - reads it from a pipe"})
    format: str = field(
        default="text", metadata={"help": "how the words are written", "choices": tuple(FORMATS)}
    )
    tokens: bool = field(
        default=False,
        metadata={"help": "with format=json: also the token said on hearing each frame"},
    )
    channel: int | None = field(
        default=None, metadata={"help": "hear one channel, counted from 0; null hears their mix"}
    )
    domain: str | None = field(
        default=None,
        metadata={"help": "kind of recording, one of the model's domains; null for its usual one"},
    )
    prompt: PromptConfig = field(
        default_factory=PromptConfig, metadata={"help": "what the model is told first"}
    )
    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(checkpoint=MISSING), metadata={"help": "who listens"}
    )
    engine: EngineConfig = field(
        default_factory=EngineConfig, metadata={"help": "where the model runs"}
    )
    decode: DecodeConfig = field(
        default_factory=DecodeConfig, metadata={"help": "how ffmpeg is held"}
    )
    guards: GuardsConfig = field(
        default_factory=GuardsConfig, metadata={"help": "when words are suspicious"}
    )
    rendering: RenderingConfig = field(
        default_factory=RenderingConfig, metadata={"help": "paragraphs and subtitles"}
    )

    def __post_init__(self) -> None:
        if self.tokens and self.format != "json":
            raise ValueError(f"tokens=true needs format=json, not format={self.format}")
        if self.channel is not None and self.channel < 0:
            raise ValueError(f"channel counts from 0, got {self.channel}")


def hear(config: FileConfig) -> int:
    from nightscribe.jobs.hearing import (
        transcribe_file,
    )  # torch, which understanding words can do without

    return transcribe_file(config)


JOB = Job(name="file", config=FileConfig, run=hear, positional=("audio",))


def main() -> None:
    run_job(JOB)


if __name__ == "__main__":
    main()
