"""A text-to-speech checkpoint with random weights on disk, to be served and spoken with.

    python -m ops.benchmarks.speech_checkpoint FOLDER SIZE     SIZE as in ops.benchmarks.speech

It has the voice `ann`. What it says is noise; it takes as long as a real one of its size.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from nightscribe.model.mimi import Mimi
from nightscribe.model.native_tensors import NativeTensor
from ops.benchmarks.moshi_peer import mimi_settings
from ops.benchmarks.speech_models import (
    config_of,
    decoder_places,
    model_places,
    random_tensors,
    voice_of,
)
from tests.speech.checkpoints import VOICE_SUFFIX, settings_of

TOKENIZER = Path("models/tiny/tokenizer.model")
AUDIO_DELAY_S = 1.28


def write(folder: Path, size: str) -> None:
    config = config_of(size)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings_of(config, AUDIO_DELAY_S)))
    (folder / "mimi.json").write_text(json.dumps(mimi_settings(config.mimi)))
    shutil.copy(TOKENIZER, folder / "tokenizer.model")
    _save(folder / "tts.safetensors", model_places(config))
    encoder = Mimi(config.mimi).native_tensors()
    _save(folder / "mimi.safetensors", decoder_places(config.mimi) | encoder)
    voice = {"speaker_wavs": voice_of(config)[None].contiguous()}
    save_file(voice, folder / f"ann{VOICE_SUFFIX}")


def _save(path: Path, places: dict[str, NativeTensor]) -> None:
    save_file(dict(random_tensors(places, torch.device("cpu"))), path)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2])
