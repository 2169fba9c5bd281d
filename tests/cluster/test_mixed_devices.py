"""Devices of different sizes in one run: each transcriber fits its slots to its own memory."""

from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from threading import Event

import pytest

from nightscribe.cluster.driver import transcribe
from nightscribe.cluster.resources import Pool
from nightscribe.engine.config import EngineConfig
from nightscribe.model import loading
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.device import fit_report, local_device
from nightscribe.model.memory_budget import CPU_SLOTS, RESERVED_SHARE
from nightscribe.transcription.transcriber import Transcriber
from tests.cluster.faults import TINY
from tests.cluster.stages import recording
from tests.cluster.test_driver import order, table

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ENGINE = EngineConfig(device="cpu", dtype="float32")
SMALL, LARGE = 2, CPU_SLOTS  # slots


def memory_for(num_slots: int) -> int:
    """Bytes of a device into which that many slots of the small model fit."""
    report = fit_report(open_checkpoint(TINY).config, local_device("cpu"), ENGINE)
    taken = report.budget.fixed + num_slots * report.budget.per_slot
    return ceil(taken / (1 - RESERVED_SHARE)) + 1


def fitted_transcriber(folder: Path, memories_bytes: list[int]) -> Transcriber:
    """In an actor, which gets the next device; it leaves a note of its slots."""
    number = next(n for n in range(len(memories_bytes)) if is_claimed(folder / str(n)))
    loading.free_bytes_of = lambda device: memories_bytes[number]
    transcriber = Transcriber.load(ModelConfig(checkpoint=TINY), ENGINE)
    (folder / str(number)).write_text(str(transcriber.stats.num_slots))
    return transcriber


def is_claimed(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def run_on(devices: list[int], folder: Path) -> tuple[list[dict], list[int]]:
    """The transcripts, and the slots of each device."""
    notes = folder / "devices"
    notes.mkdir(parents=True)
    asked = order([recording(n, 0.5 + n % 7) for n in range(24)], folder)
    memories_bytes = [memory_for(num_slots) for num_slots in devices]
    stages = replace(
        asked.stages, make_transcriber=partial(fitted_transcriber, notes, memories_bytes)
    )
    pool = Pool(num_actors=len(devices), gpus_per_actor=0.0, num_audio_workers=2, num_slots=None)
    transcribe(replace(asked, stages=stages), pool, Event(), lambda progress: None)
    slots = [int((notes / str(n)).read_text()) for n in range(len(devices))]
    return table(folder / "out"), slots


def test_every_device_has_the_slots_that_fit_it_and_the_words_are_the_same(local_ray, tmp_path):
    mixed, slots = run_on([SMALL, LARGE], tmp_path / "mixed")
    assert slots == [SMALL, LARGE]
    alone, slots = run_on([LARGE], tmp_path / "alone")
    assert slots == [LARGE]
    assert [words_of(row) for row in mixed] == [words_of(row) for row in alone]
    assert len(mixed) == 24


def words_of(row: dict) -> tuple[str, list]:
    words = [(one["text"], one["start_s"], round(one["confidence"], 2)) for one in row["words"]]
    return row["recording_id"], words
