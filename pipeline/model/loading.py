"""Puts a checkpoint on a device with as many slots as its memory takes."""

import logging
import os
from typing import Protocol

import torch

from pipeline.model.checkpoints.open import Checkpoint
from pipeline.model.fitting import SMALLEST_BUCKET, Footprint, footprint
from pipeline.model.placement import cache_dtype_of, device_of, dtype_of, name_of
from pipeline.model.slotted import SlottedModel
from pipeline.model.speech_to_text import SpeechToText

log = logging.getLogger(__name__)

CPU_SLOTS = 8  # a CPU gains little from more
GPU_ENCODE_ROWS = 64


class Wishes(Protocol):
    """What the user asked of the engine."""

    device: str
    dtype: str
    cache: str
    num_slots: int | None
    round_steps: int
    graph: bool


def load_slotted(checkpoint: Checkpoint, wishes: Wishes) -> SlottedModel:
    """A model with slots; where the memory turns out too small, with half as many, and so on."""
    device = device_of(wishes.device)
    dtype = dtype_of(wishes.dtype, device)
    cache_dtype = cache_dtype_of(wishes.cache, dtype, device)
    speech = SpeechToText.load(
        checkpoint.config,
        checkpoint.mimi_tensors(),
        checkpoint.language_model_tensors(),
        device,
        dtype,
    )
    name, cache = name_of(dtype), name_of(cache_dtype)
    rows = GPU_ENCODE_ROWS if device.type == "cuda" else 1
    needs = footprint(checkpoint.config, name, cache, wishes.round_steps, rows)
    num_slots = wishes.num_slots or _fitting_slots(needs, device)
    told = needs.told(num_slots)
    log.info("%s in %s, cache in %s, %d slots: %s", device, name, cache, num_slots, told)
    return _with_slots(speech, num_slots, wishes, cache_dtype)


def _fitting_slots(needs: Footprint, device: torch.device) -> int:
    if device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        # The weights are there already.
        num_slots = needs.num_slots(free_bytes + needs.weights + needs.codec_weights)
        return max(num_slots, SMALLEST_BUCKET)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return max(1, min(CPU_SLOTS, needs.num_slots(memory_bytes + needs.weights)))


def _with_slots(
    speech: SpeechToText, num_slots: int, wishes: Wishes, cache_dtype: torch.dtype
) -> SlottedModel:
    while True:
        try:
            return SlottedModel(
                speech,
                num_slots,
                wishes.round_steps,
                use_graphs=wishes.graph,
                cache_dtype=cache_dtype,
            )
        except torch.OutOfMemoryError:
            if num_slots == 1:
                raise
            log.warning("%d slots do not fit; trying %d", num_slots, num_slots // 2)
            num_slots //= 2
            torch.cuda.empty_cache()
