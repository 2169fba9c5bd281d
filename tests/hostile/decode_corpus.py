"""Decodes a folder with the audio reader of a run; started under strace.

`python -m tests.hostile.decode_corpus FOLDER RESULTS` writes one line of JSON for each recording,
and a last one about the process itself.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.segmentation import ShardConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.planning import PlanningConfig, plan
from nightscribe.records import Failure, PlannedRecording, Recording
from nightscribe.runs.audio_reader import AudioReader, SourceConfig
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.locations import S3Config
from nightscribe.storage.sources import recordings

NUM_THREADS = 2
LIMITS = DecodeConfig(stall_s=30.0, max_cpu_s=20, max_memory_bytes=2 << 30, max_recording_s=120.0)
SAMPLE_EVERY = 100
KIB = 1024


def main(folder: str, results: str) -> None:
    planned = list(plan(recordings(folder, S3Config()), ContentHasher(), PlanningConfig()))
    with open(results, "w") as file, ThreadPoolExecutor(NUM_THREADS) as threads:
        samples = []
        for number, result in enumerate(_results(planned, threads)):
            file.write(json.dumps(result) + "\n")
            if number % SAMPLE_EVERY == 0:
                samples.append(_sample())
        file.write(
            json.dumps({"samples": [*samples, _sample()], "largest_child": _largest_child()})
        )


def _results(
    planned: Iterable[PlannedRecording], threads: ThreadPoolExecutor
) -> Iterator[dict[str, Any]]:
    waiting = iter(planned)
    while some := list(islice(waiting, SAMPLE_EVERY)):
        yield from threads.map(_result, some)


def _result(planned: PlannedRecording) -> dict[str, Any]:
    """The result of one recording, decoded even if it has the same bytes as another."""
    recording = planned.recording
    return {"uri": recording.uri, "recording_id": recording.recording_id} | _read(recording)


def _read(recording: Recording) -> dict[str, Any]:
    reader = AudioReader(
        sample_rate_hz=24_000,
        source=SourceConfig(decode=LIMITS),
        shard=ShardConfig(),
        guards=GuardsConfig(),
        s3=S3Config(),
    )
    began_s, num_samples, damage, failure = time.monotonic(), 0, None, None
    for cut in reader(recording):
        if isinstance(cut, Failure):
            failure = cut
        else:
            num_samples += cut.shard.owned_end_sample - cut.shard.owned_start_sample
            damage = cut.shard.damage
    return {
        "num_samples": num_samples,
        "damage": damage,
        "failure": failure and [failure.stage, failure.reason, failure.detail],
        "took_s": round(time.monotonic() - began_s, 3),
    }


def _sample() -> dict[str, int]:
    """Memory and descriptors of the process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "resident_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "num_descriptors": len(os.listdir("/proc/self/fd")),
    }


def _largest_child() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * KIB


if __name__ == "__main__":
    main(*sys.argv[1:])
