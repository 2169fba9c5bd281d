"""Several frames in one pass, every KV cache full; for a second run, after `gpu.sh`."""

import sys
from statistics import median

from nightscribe.benchmarks.machine_speed import release_memory, step_runner
from nightscribe.benchmarks.measurements import ROUND_STEPS, fill_memory, round_of, timed
from nightscribe.benchmarks.random_weights import config_of, random_speech
from nightscribe.benchmarks.report import Table
from nightscribe.model.device import dtype_of
from nightscribe.model.speech_to_text import SpeechToText
from ops.benchmarks.gpu.stage import Stage
from ops.benchmarks.speculative_passes import FRAMES, measure_pass


def main(stage: Stage) -> None:
    for size in stage.sizes:
        stage.measure(f"passes of {size}", _table, stage, size)


def _table(stage: Stage, size: str) -> Table:
    num_slots, num_rounds = (256, 4) if stage.is_cuda else (2, 1)
    speech = random_speech(config_of(size), stage.device, dtype_of("auto", stage.device))
    step_s = _step_s(speech, num_slots, num_rounds)
    rows = []
    for num_frames in FRAMES:
        cost = measure_pass(speech, num_slots, num_frames, step_s, num_rounds)
        rows.append((size, num_slots, num_frames, 1e3 * cost.pass_s, cost.frames_to_gain))
        release_memory(stage.device)
    return Table(
        title=f"Several frames in one pass: {size}",
        columns=("model", "slots", "frames", "ms a pass", "accepted frames needed to gain"),
        rows=rows,
        notes=("Random weights cannot show how many frames are accepted.",),
    )


def _step_s(speech: SpeechToText, num_slots: int, num_rounds: int) -> float:
    model = step_runner(speech, num_slots, speech.language_model.norm.scale_D.dtype)
    fill_memory(model)
    context = speech.config.language_model.context
    run = round_of(model, num_slots, context, ROUND_STEPS)
    run()
    step_s = median(timed(run, speech.device).wall_s for _ in range(num_rounds)) / ROUND_STEPS
    del model
    release_memory(speech.device)
    return step_s


if __name__ == "__main__":
    running = Stage.of("passes", sys.argv[1:])
    main(running)
    running.end()
