"""A run of which one part hangs for good: `python -m tests.cluster.hanging PART OUTPUT`."""

import logging
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from nightscribe.cluster.driver import transcribe
from nightscribe.cluster.ray_session import connected
from nightscribe.cluster.resources import Pool
from nightscribe.engine.loop import EngineStats
from nightscribe.runs import attempt, watchdog
from nightscribe.runs.attempt import RunSpec
from nightscribe.runs.config import ClusterConfig, IntervalsConfig, RayConfig
from tests.cluster.stages import plan_file, read, recording, stages

PATIENCE_S = 5.0
CLUSTER = ClusterConfig(stall_timeout_s=PATIENCE_S, object_store_gib=0.1)


class HangingTranscriber:
    """Holds on to the loop of its actor and lets nothing else happen."""

    has_died = False
    model = model_revision = ""

    def __init__(self, output):
        self._output, self.stats = output, EngineStats()

    def submit(self, clip):
        hang_in_the_transcriber(self._output)


def hang_in_the_transcriber(output):
    hang(output, "transcriber")


def hang_in_the_decoder(output, recording):
    hang(output, "decoder")
    yield from read(recording)


def hang_in_the_publisher(output, transcript):
    hang(output, "publisher")


def hang_in_the_driver(output, progress):
    if progress.num_shards:
        hang(output, "driver")


def hang(output, part):
    (output / f"{part}-hangs").touch()
    time.sleep(10**6)


def move_until_hanging(part, output):
    """Let the run look alive until then: it may take a busy machine long to come so far."""

    def sign(self):
        return (output / f"{part}-hangs").exists() or time.monotonic()

    attempt.Attempt._progress_mark = sign


def order(part: str, output: Path) -> RunSpec:
    output.mkdir(parents=True)
    made = stages(output)
    hanging = {
        "decoder": {"read": partial(hang_in_the_decoder, output)},
        "transcriber": {"make_transcriber": partial(HangingTranscriber, output)},
    }
    return RunSpec(
        plan=plan_file([recording(n) for n in range(4)], output.parent),
        settings={"model": "hashing"},
        stages=replace(made, **hanging.get(part, {})),
        examine=partial(hang_in_the_publisher, output) if part == "publisher" else _itself,
        cluster=CLUSTER,
        intervals=IntervalsConfig(publish_s=0.5, heartbeat_s=0.5),
    )


def _itself(given):
    return given


if __name__ == "__main__":
    logging.basicConfig()
    watchdog.GRACE_S = 8.0
    part, output = sys.argv[1], Path(sys.argv[2])
    move_until_hanging(part, output)
    with connected(RayConfig(), CLUSTER):
        pool = Pool(num_actors=1, gpus_per_actor=0.0, num_audio_workers=2, num_slots=4)
        show = partial(hang_in_the_driver, output) if part == "driver" else _itself
        transcribe(order(part, output), pool, threading.Event(), show)
