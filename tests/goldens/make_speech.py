"""Write down what the reference says aloud: python -m tests.goldens.make_speech"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.goldens.inputs import weight
from tests.goldens.speech_inputs import (
    CONFIGS,
    GUIDANCE,
    MIMI,
    NEW_WORD_SCALES,
    heard_frames,
    speech_weight,
)
from tests.model.reference import native as mimi_native
from tests.model.reference import random_moshi_mimi
from tests.model.tts import peer as peers
from tests.model.tts.spoken import SCRIPTS, generated

GOLDEN = Path(__file__).with_name("moshi_speech.safetensors")


def golden_peer(kind: str) -> peers.Peer:
    """The reference's model with the golden weights."""
    peer = peers.random_peer(CONFIGS[kind], 0, NEW_WORD_SCALES[kind])
    shapes = {name: t.shape for name, t in peers.native(peer.lm.state_dict(), peer.config)}
    weights = {name: speech_weight(kind, name, tuple(shape)) for name, shape in shapes.items()}
    for name, tensor in peer.lm.state_dict().items():
        if name in weights:
            tensor.copy_(weights[name])
            continue
        # A part of a stacked tensor.
        stem, _, index = name.removesuffix(".weight").rpartition(".")
        stacked = stem.removesuffix("s") + ("_weight" if stem.endswith("in_projs") else ".weight")
        rows = tensor.shape[0]
        tensor.copy_(weights[stacked][int(index) * rows : (int(index) + 1) * rows])
    return peer


@torch.no_grad()
def said(kind: str) -> dict[str, torch.Tensor]:
    result, frames_SXF = generated(golden_peer(kind), SCRIPTS, GUIDANCE[kind])
    return {
        f"{kind}.frames_SXF": frames_SXF.short(),
        f"{kind}.ends_S": torch.tensor(result.end_steps),
    }


@torch.no_grad()
def sound(frames_SXF: torch.Tensor) -> torch.Tensor:
    """What the codec makes of the audio, frame by frame."""
    mimi = random_moshi_mimi(MIMI, seed=0)
    for name, tensor in mimi_native(mimi.state_dict()):
        if tensor.is_floating_point() and not name.endswith("_initialized"):
            tensor.copy_(weight(name, tuple(tensor.shape)))
    for codebook in (m for m in mimi.modules() if hasattr(m, "embedding_sum")):
        codebook._embedding = None
    codes_SKF = heard_frames(frames_SXF)
    with mimi.streaming(len(codes_SKF)):
        frames = [mimi.decode(codes_SK1) for codes_SK1 in codes_SKF.split(1, dim=-1)]
    return torch.cat(frames, dim=-1)[:, 0]


def main() -> None:
    tensors = {name: tensor for kind in CONFIGS for name, tensor in said(kind).items()}
    tensors["cross.sound_SN"] = sound(tensors["cross.frames_SXF"])
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, GOLDEN)


if __name__ == "__main__":
    main()
