"""Text to speech on a GPU, at the size of the 1.6B: a step by number of texts, and the decoder."""

import sys
from collections.abc import Iterator
from statistics import median
from time import perf_counter

import torch

from nightscribe.benchmarks.machine_speed import release_memory
from nightscribe.benchmarks.report import Table
from nightscribe.model.device import dtype_of
from nightscribe.model.mimi_decoder import MimiDecoder
from nightscribe.model.tts.text_to_speech import Text, TextToSpeech
from ops.benchmarks.gpu.stage import Stage
from ops.benchmarks.speech_models import flat_script, random_decoder, random_model, voice_of

FRAME_S = 0.08
NUM_WORDS = 400  # no text ends while it is measured
MIN_STEPS, MEASURED_STEPS = 20, 12  # the depth transformer runs from the 17th step on


def main(stage: Stage) -> None:
    stage.measure("steps of text to speech", _steps, stage)
    stage.measure("Mimi's decoder", _decoder, stage)


def _steps(stage: Stage) -> Iterator[Table]:
    """A table for each number of texts: what comes later may run out of time or memory."""
    size = "1.6b" if stage.is_cuda else "toy"
    model = random_model(size, stage.device, dtype_of("auto", stage.device))
    columns = ("texts", "ms a step", "x real time, all texts")
    for num_slots in (1, 64, 256) if stage.is_cuda else (1, 2):
        step_s = _step_s(model, num_slots)
        yield Table(
            title=f"A step of text to speech: {size}, {num_slots} texts",
            columns=columns,
            rows=[(num_slots, 1e3 * step_s, num_slots * FRAME_S / step_s)],
            notes=("Random weights; every text has the same voice; early in the window.",),
        )
        release_memory(stage.device)


def _step_s(model: TextToSpeech, num_slots: int) -> float:
    state, voice = model.initial_state(num_slots), voice_of(model.config).to(model.device)
    script = flat_script(model.config, NUM_WORDS)
    for slot in range(num_slots):
        model.begin(state, slot, Text(script=script, voices=[voice], seed=slot))
    times_s = []
    for _ in range(MIN_STEPS + MEASURED_STEPS):
        began_s = perf_counter()
        model.step(state).ends_S.tolist()
        times_s.append(perf_counter() - began_s)
    return median(times_s[MIN_STEPS:])


def _decoder(stage: Stage) -> Table:
    decoder = random_decoder("1.6b" if stage.is_cuda else "toy", stage.device)
    shapes = ((1, 1), (1, 25), (16, 25), (64, 25)) if stage.is_cuda else ((1, 1), (2, 25))
    rows = [
        (num_rows, frames, num_rows * frames * FRAME_S / _decoding_s(decoder, num_rows, frames))
        for num_rows, frames in shapes
    ]
    columns = ("texts", "frames a call", "x real time, all texts")
    return Table(title="Codes to samples", columns=columns, rows=rows, notes=("Random weights.",))


def _decoding_s(decoder: MimiDecoder, num_rows: int, num_frames: int) -> float:
    device = decoder.device
    shape = (num_rows, num_frames, decoder.config.num_codebooks)
    codes_BFK = torch.randint(0, decoder.config.codebook_size, shape, device=device)
    state = decoder.initial_state(num_rows, num_frames)
    times_s = []
    for _ in range(8):
        began_s = perf_counter()
        decoder.decode(codes_BFK, state).sum().item()
        times_s.append(perf_counter() - began_s)
    return median(times_s[3:])


if __name__ == "__main__":
    running = Stage.of("speech", sys.argv[1:])
    main(running)
    running.end()
