"""Puts a checkpoint on a device with as many slots as its memory takes."""

import logging
import os
from typing import Protocol

import torch

from pipeline.model.checkpoints.open import Checkpoint
from pipeline.model.fitting import SMALLEST_BUCKET, Footprint, footprint
from pipeline.model.placement import device_of, dtype_of
from pipeline.model.slotted import SlottedModel
from pipeline.model.speech_to_text import SpeechToText

log = logging.getLogger(__name__)

CPU_SLOTS = 8  # a CPU gains little from more
GPU_ENCODE_ROWS = 64


class Wishes(Protocol):
    """What the user asked of the engine."""

    device: str
    dtype: str
    num_slots: int | None
    round_steps: int
    graph: bool


def load_slotted(checkpoint: Checkpoint, wishes: Wishes) -> SlottedModel:
    """A model with slots; where the memory turns out too small, with half as many, and so on."""
    device = device_of(wishes.device)
    dtype = dtype_of(wishes.dtype, device)
    speech = SpeechToText.load(
        checkpoint.config,
        checkpoint.mimi_tensors(),
        checkpoint.language_model_tensors(),
        device,
        dtype,
    )
    name = str(dtype).removeprefix("torch.")
    rows = GPU_ENCODE_ROWS if device.type == "cuda" else 1
    needs = footprint(checkpoint.config, name, name, wishes.round_steps, rows)
    num_slots = wishes.num_slots or _fitting_slots(needs, device)
    log.info("%s in %s, %d slots: %s", device, name, num_slots, needs.told(num_slots))
    return _with_slots(speech, num_slots, wishes)


def _fitting_slots(needs: Footprint, device: torch.device) -> int:
    if device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        # The weights are there already.
        num_slots = needs.num_slots(free_bytes + needs.weights + needs.codec_weights)
        return max(num_slots, SMALLEST_BUCKET)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return max(1, min(CPU_SLOTS, needs.num_slots(memory_bytes + needs.weights)))


def _with_slots(speech: SpeechToText, num_slots: int, wishes: Wishes) -> SlottedModel:
    while True:
        try:
            return SlottedModel(speech, num_slots, wishes.round_steps, use_graphs=wishes.graph)
        except torch.OutOfMemoryError:
            if num_slots == 1:
                raise
            log.warning("%d slots do not fit; trying %d", num_slots, num_slots // 2)
            num_slots //= 2
            torch.cuda.empty_cache()
