"""Recordings in, transcripts out.

plan (list once) -> fetch, decode, cut into shards -> [GPU actor: Mimi -> language model -> words]
-> committed parts -> stitched transcripts.

The public names of the Python API are imported when they are first used: `import nightscribe`
loads neither torch nor ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nightscribe.engine.config import EngineConfig
    from nightscribe.jobs.file import FileTranscript, load_transcriber, read_audio, transcribe
    from nightscribe.model.checkpoints.model_config import ModelConfig
    from nightscribe.model.prompting import Prompt
    from nightscribe.records import Word
    from nightscribe.transcription.transcriber import Clip, Transcriber

__all__ = [
    "Clip",
    "EngineConfig",
    "FileTranscript",
    "ModelConfig",
    "Prompt",
    "Transcriber",
    "Word",
    "load_transcriber",
    "read_audio",
    "transcribe",
]

_HOMES = {
    "Clip": "transcription.transcriber",
    "EngineConfig": "engine.config",
    "FileTranscript": "jobs.file",
    "ModelConfig": "model.checkpoints.model_config",
    "Prompt": "model.prompting",
    "Transcriber": "transcription.transcriber",
    "Word": "records",
    "load_transcriber": "jobs.file",
    "read_audio": "jobs.file",
    "transcribe": "jobs.file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
