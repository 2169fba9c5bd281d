"""Text to speech on a GPU, at the size of the 1.6B: a step by number of texts, and the decoder."""

import sys
from collections import deque
from collections.abc import Iterator
from statistics import median
from time import perf_counter

import torch

from nightscribe.benchmarks.machine_speed import release_memory
from nightscribe.benchmarks.report import Table
from nightscribe.model.cuda_graphs import CudaRuntime
from nightscribe.model.device import dtype_of
from nightscribe.model.mimi_decoder import MimiDecoder
from nightscribe.model.tts.speech_runner import DecodeJob, DecoderRunner, SpeechRunner
from nightscribe.model.tts.text_to_speech import Text
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
    decoder = random_decoder(size, stage.device)
    for num_slots in (1, 64, 256) if stage.is_cuda else (1, 2):
        rows: list[tuple[str | float | int | None, ...]] = []
        for how, use_graphs in (("one graph", True), ("calls", False)):
            runner = SpeechRunner(model, decoder, num_slots, use_graphs)
            step_s = _step_s(runner)
            rows.append((num_slots, how, 1e3 * step_s, num_slots * FRAME_S / step_s))
            del runner
            release_memory(stage.device)
        yield Table(
            title=f"A step of text to speech: {size}, {num_slots} texts",
            columns=("texts", "a step is", "ms a step", "x real time, all texts"),
            rows=rows,
            notes=("Random weights; every text has the same voice; early in the window.",),
        )


def _step_s(runner: SpeechRunner) -> float:
    """The host hears of each step while the next one runs, as in the engine."""
    model, slots = runner.model, range(runner.num_slots)
    voice, script = voice_of(model.config), flat_script(model.config, NUM_WORDS)
    for slot in slots:
        runner.begin(slot, Text(script=script, voices=[voice], seed=slot))
    queued, times_s = deque([runner.step(slots)]), []
    for _ in range(MIN_STEPS + MEASURED_STEPS):
        began_s = perf_counter()
        queued.append(runner.step(slots))
        queued.popleft().wait()
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
    """As beside the steps of the engine: on a GPU, one captured call for up to 16 texts."""
    runtime = CudaRuntime(decoder.device, use_graphs=True)
    runner = DecoderRunner(decoder, runtime, num_rows)
    shape = (num_rows, num_frames, decoder.config.num_codebooks)
    codes_JFK = torch.randint(0, decoder.config.codebook_size, shape, device=decoder.device)
    jobs = [DecodeJob(slot, 0, num_frames, is_first=True) for slot in range(num_rows)]
    times_s = []
    for _ in range(8):
        began_s = perf_counter()
        runner.decode(codes_JFK, jobs).wait()
        times_s.append(perf_counter() - began_s)
    return median(times_s[3:])


if __name__ == "__main__":
    running = Stage.of("speech", sys.argv[1:])
    main(running)
    running.end()
