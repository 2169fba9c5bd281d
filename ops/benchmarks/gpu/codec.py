"""Mimi alone: the first call of a shape and later ones, in each precision of its products."""

import sys
import time

from nightscribe.benchmarks.machine_speed import step_runner
from nightscribe.benchmarks.measurements import in_turns, medians, one_chunk, synchronize
from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.benchmarks.report import Table
from nightscribe.model.device import dtype_of
from nightscribe.model.model_runner import ModelRunner
from ops.benchmarks.codec_precisions import measure_precisions
from ops.benchmarks.gpu.stage import Stage

NUM_FRAMES = 25
REPEATS = 5
COLD, PRECISION = "Mimi: a new shape", "Mimi: precision of its products"


def main(stage: Stage) -> None:
    """Mimi is the same in all sizes: the first stands for them."""
    dtype = dtype_of("auto", stage.device)
    speech = random_speech(config_of(stage.sizes[0]), stage.device, dtype)
    num_rows = 64 if stage.is_cuda else 2
    stage.measure("Mimi's precisions", precision_table, speech.mimi, num_rows)
    model = step_runner(speech, num_rows, dtype)
    stage.measure("Mimi, cold and warm", cold_table, model, num_rows)


def precision_table(mimi, num_rows: int) -> Table:
    return Table(
        title=PRECISION,
        columns=(
            "precision",
            "streams",
            "times real time",
            "codes changed, %",
            "first codebook's, %",
        ),
        rows=[
            (
                cost.name,
                num_rows,
                cost.times_real_time,
                100 * cost.changed,
                100 * cost.changed_first,
            )
            for cost in measure_precisions(mimi, num_rows, NUM_FRAMES)
        ],
        notes=(
            "Changed: compared with strict fp32, on noise, with random weights; a changed code "
            "changes the input of all later codebooks of the frame.",
        ),
    )


def cold_table(model: ModelRunner, num_rows: int) -> Table:
    """As the engine encodes: every number of streams and frames is a shape of its own."""
    rows = []
    for num_jobs in (num_rows, num_rows // 2 + 1, 1):
        for num_frames in (NUM_FRAMES, NUM_FRAMES - 6, 3):
            rows.append((num_jobs, num_frames, *_cold_and_warm(model, num_jobs, num_frames)))
    return Table(
        title=COLD,
        columns=("streams", "frames", "first call, ms", "later calls, ms", "later, us a frame"),
        rows=rows,
        notes=("First: what a round waits for if the shape was not prepared when it was loaded.",),
    )


def _cold_and_warm(model: ModelRunner, num_jobs: int, num_frames: int) -> tuple[float, ...]:
    chunk, device = one_chunk(model, num_frames, num_jobs), model.device
    synchronize(device)
    began_s = time.perf_counter()
    model.encode(chunk)
    synchronize(device)
    first_s = time.perf_counter() - began_s
    later_s = medians(in_turns({"": lambda: model.encode(chunk)}, REPEATS, device)[""]).wall_s
    return 1e3 * first_s, 1e3 * later_s, 1e6 * later_s / (num_jobs * num_frames)


if __name__ == "__main__":
    running = Stage.of("codec", sys.argv[1:])
    main(running)
    running.end()
