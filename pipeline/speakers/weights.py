"""Opens the weights of the speaker networks: those that ship, a local folder, or the hub.

A matrix stored as int16 has a factor for each output channel beside it, under its name and the
ending `.factors`.
"""

from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nightscribe.model.checkpoints.locations import fetch, locate
from nightscribe.model.checkpoints.settings import CheckpointError
from nightscribe.speakers.embedding_network import CamPlusPlus
from nightscribe.speakers.segmentation_network import SegmentationNetwork

EMBEDDING_FILE = "embedding.safetensors"
SEGMENTATION_FILE = "segmentation.safetensors"
FACTORS = ".factors"


@dataclass(frozen=True, slots=True)
class SpeakerNetworks:
    """The two networks on one device."""

    segmentation: SegmentationNetwork
    embedding: CamPlusPlus
    device: torch.device


def load_networks(checkpoint: str, device: torch.device) -> SpeakerNetworks:
    """Both networks of a checkpoint; CheckpointError if it is not one."""
    segmentation, embedding = (
        _weights(checkpoint, name, device) for name in (SEGMENTATION_FILE, EMBEDDING_FILE)
    )
    try:
        return SpeakerNetworks(SegmentationNetwork(segmentation), CamPlusPlus(embedding), device)
    except KeyError as error:
        raise CheckpointError(
            f"{checkpoint} is no CAM++ and segmentation 3.0: it has no tensor {error}"
        ) from None


def _weights(checkpoint: str, file_name: str, device: torch.device) -> dict[str, Tensor]:
    location, _ = locate(checkpoint)
    path = fetch(location, file_name)
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None
    return {
        name: dequantized(name, stored).to(device) for name in stored if not name.endswith(FACTORS)
    }


def dequantized(name: str, stored: dict[str, Tensor]) -> Tensor:
    """The tensor in float32."""
    tensor = stored[name].float()
    factors_C = stored.get(name + FACTORS)
    if factors_C is None:
        return tensor
    return tensor * factors_C.view(-1, *[1] * (tensor.ndim - 1))


def quantized(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """The tensor as int16, and the factor of each output channel."""
    largest_C = tensor.abs().flatten(1).amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
    factors_C = largest_C / torch.iinfo(torch.int16).max
    scaled = tensor / factors_C.view(-1, *[1] * (tensor.ndim - 1))
    return scaled.round().to(torch.int16), factors_C
