"""Audio to tokens: clips of 10 s, shards of 60 s and long recordings, beside what memory allows."""

import json
import sys
from collections.abc import Iterator

from nightscribe.benchmarks.machine_speed import (
    ModelSpeed,
    step_runner,
    throughput_table,
)
from nightscribe.benchmarks.measurements import Throughput, Workload, measure_throughput
from nightscribe.benchmarks.random_weights import PUBLISHED_NAMES, config_of, random_speech
from nightscribe.benchmarks.report import Table
from nightscribe.benchmarks.roofline import DeviceRates, limit_times_real_time
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.device import dtype_of, name_of
from ops.benchmarks.gpu.machine import BANDWIDTH, PRODUCTS
from ops.benchmarks.gpu.stage import Stage, records_of, tables_of

LONG_BUDGET_S = 18.0  # of wall time
SPEEDS = "Audio to tokens"


def main(stage: Stage) -> None:
    for size in stage.sizes:
        stage.measure(f"workloads of {size}", _tables, stage, size)


def _tables(stage: Stage, size: str) -> Iterator[Table]:
    """After each workload the table of all so far."""
    dtype, num_slots = dtype_of("auto", stage.device), 256 if stage.is_cuda else 2
    speech = random_speech(config_of(size), stage.device, dtype)
    model, speed = step_runner(speech, num_slots, dtype), ModelSpeed(model=size)
    rates = rates_of(stage, size)
    for workload in workloads(stage.is_cuda, num_slots, speed):
        measured = measure_throughput(model, speech.config, workload, stage.device)
        speed.throughputs.append((name_of(dtype), measured))
        stage.tables = [one for one in stage.tables if one.title != throughput_table([]).title]
        yield limit_table(size, speech.config, measured, num_slots, rates)
        yield throughput_table([speed])
    _write_record(stage, size, speed)


def workloads(is_cuda: bool, num_slots: int, speed: ModelSpeed) -> Iterator[Workload]:
    """Long recordings come last: they are as long as the speed of the shards allows."""
    if not is_cuda:
        yield Workload(name="short", shortest_s=0.4, longest_s=0.4, num_clips=4)
        yield Workload(name="shards", shortest_s=0.6, longest_s=0.6, num_clips=2)
        yield Workload(name="long", shortest_s=1, longest_s=1, num_clips=2)
        return
    yield Workload(name="warm-up", shortest_s=1, longest_s=3, num_clips=2 * num_slots)
    yield Workload(name="short", shortest_s=10, longest_s=10, num_clips=6 * num_slots)
    yield Workload(name="shards", shortest_s=60, longest_s=60, num_clips=num_slots)
    long_s = LONG_BUDGET_S * speed.throughputs[-1][1].times_real_time / num_slots
    long_s = min(600.0, max(60.0, long_s))
    yield Workload(name="long", shortest_s=long_s, longest_s=long_s, num_clips=num_slots)


def limit_table(
    size: str,
    config: SpeechToTextConfig,
    measured: Throughput,
    num_slots: int,
    rates: DeviceRates | None,
) -> Table:
    clip_s = measured.workload.longest_s
    limit = None if rates is None else limit_times_real_time(config, clip_s, num_slots, rates)
    share = None if limit is None else 100 * measured.times_real_time / limit
    return Table(
        title=f"{SPEEDS}: {size}, {measured.workload.name}",
        columns=("model", "clips", "s", "x real time", "limit", "% of it", "host ms", "GPU ms"),
        rows=[
            (
                size,
                measured.workload.name,
                clip_s,
                measured.times_real_time,
                limit,
                share,
                *(
                    None if round_s is None else 1e3 * round_s
                    for round_s in (measured.host_round_s, measured.device_round_s)
                ),
            )
        ],
        notes=(
            "Limit: weights and valid KV cache at the bandwidth of a copy, products at their "
            "measured rate, Mimi in TF32 after them. Milliseconds are of a round of 25 steps.",
        ),
    )


def rates_of(stage: Stage, size: str) -> DeviceRates | None:
    """What the stage `machine` measured; None if it is lost."""
    rows = records_of(tables_of(stage.folder.parent, "machine"))
    bandwidth = [row["GB/s"] for row in rows if row["title"] == BANDWIDTH and row["what"] == "copy"]
    products = [row for row in rows if row["title"] == PRODUCTS]
    ours = [row["TFLOP/s"] for row in products if row["model"] == size]
    codec = [row["TFLOP/s"] for row in products if row["dtype"] == "TF32"]
    if not (bandwidth and ours and codec):
        return None
    return DeviceRates(
        copy_bytes_per_s=1e9 * bandwidth[0], flops=1e12 * max(ours), codec_flops=1e12 * codec[0]
    )


def _write_record(stage: Stage, size: str, speed: ModelSpeed) -> None:
    """As `nightscribe plan` reads it; not of a CPU, and not of sizes that nobody runs."""
    if stage.is_cuda and size in PUBLISHED_NAMES:
        published = ModelSpeed(model=PUBLISHED_NAMES[size], throughputs=speed.throughputs)
        record = published.record(stage.device, speed.throughputs[-1][0])
        path = stage.folder.parent / f"speed-{size}.json"
        path.write_text(json.dumps([record], indent=2) + "\n")


if __name__ == "__main__":
    running = Stage.of(f"workloads-{sys.argv[2]}", sys.argv[1:])
    main(running)
    running.end()
