"""What Prometheus would read from Ray's exporter while a run goes on."""

import threading
import time
import urllib.request
from collections import defaultdict

import pytest

from tests.cluster.stages import recording
from tests.cluster.test_driver import order, run, spoken_directly, table
from tests.ops.test_watch import OF_RAY, metrics_in, panels, rules

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(600),
]

PATIENCE_S = 240.0  # a busy machine starts workers slowly
REST_S = 3.0  # several times as long as processes take to tell something
TABLES = ("transcripts", "failures")


def exported(ray) -> dict[str, dict[str, float]]:
    """The last value of every series by its labels, by name."""
    port = ray.nodes()[0]["MetricsExportPort"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for line in lines:
        if line.startswith("ray_"):
            series, _, value = line.rpartition(" ")
            name, _, labels = series.partition("{")
            found[name][labels] = float(value)
    return found


def told(ray) -> dict[str, dict[str, float]]:
    """What runs tell: by name, the value of each process."""
    return {
        name.removeprefix("ray_nightscribe_"): values
        for name, values in exported(ray).items()
        if name.startswith("ray_nightscribe_")
    }


def grown(now: dict[str, dict[str, float]], before: dict[str, dict[str, float]]) -> dict:
    """By how much the sums over processes grew; those of earlier runs may vanish meanwhile."""
    return {
        name: sum(value - before.get(name, {}).get(labels, 0.0) for labels, value in values.items())
        for name, values in now.items()
    }


def at_rest(ray) -> dict[str, dict[str, float]]:
    """What runs have told once those before have told everything."""
    before, now = None, told(ray)
    while now != before:
        time.sleep(REST_S)
        before, now = now, told(ray)
    return now


def until(is_there, look):
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_there(found := look()):
        assert time.monotonic() < deadline_s, f"last seen: {found}"
        time.sleep(2.0)  # a scrape costs the agent a good part of a second
    return found


def test_a_run_exports_what_the_dashboard_shows_with_true_values(local_ray, tmp_path):
    good = [recording(n, 3.0) for n in range(8)]
    bad = [recording(n, 3.0, "bad") for n in range(8, 13)]
    held = recording(13, 1.0, "held")  # it and what shares its block come to no end
    what = order([*good, *bad, held], tmp_path, crash_folder=str(tmp_path))
    before = at_rest(local_ray)

    def is_all_told(seen):
        seen["in_tables"] = [len(table(tmp_path / "out", name)) for name in TABLES]
        published = [seen["recordings_total"], seen["failures_total"]]
        arrived = (seen["shards_total"], seen["queue_shards"], seen["decoded_seconds_total"])
        return arrived == (16, 1, 25) and published == seen["in_tables"] and all(published)

    driver = threading.Thread(target=run, args=(what,))
    driver.start()
    try:
        now = until(
            is_all_told,
            lambda: defaultdict(float, grown(told(local_ray), before)),
        )
        series = exported(local_ray)
    finally:
        (tmp_path / "held-0013.wav").touch()
        driver.join()
    num_words = sum(len(words) for words in spoken_directly(good).values())
    assert now["audio_seconds_total"] == pytest.approx(24.0)
    assert now["words_total"] == num_words
    assert 0 < now["decode_busy_seconds_total"] < 20
    assert any(
        'stage="decode"' in labels and 'reason="no_audio"' in labels
        for labels in series["ray_nightscribe_failures_total"]
    )
    assert (now["slots"], now["slots_busy"], now["queue_shards"]) == (4, 0, 1)
    assert now["step_seconds_count"] >= 1
    assert 0 < now["step_seconds_sum"] / now["step_seconds_count"] < 1
    assert all('NodeAddress="' in labels for labels in series["ray_nightscribe_slots"])
    assert shown_names() <= series.keys() | {"ray_nightscribe_retries_total"}
    assert any('Location="SPILLED"' in labels for labels in series["ray_object_store_memory"])


def shown_names() -> set[str]:
    """Every name in a panel or a rule, as it stands there."""
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    expressions += [rule["expr"] for rule in rules()]
    names = {name for text in expressions for name in metrics_in(text)} | OF_RAY
    histograms = {"ray_nightscribe_step_seconds"}
    return (names - histograms) | {f"{name}_bucket" for name in histograms}


def test_retries_after_a_worker_death_are_exported(local_ray, tmp_path):
    recordings = [recording(0, 3.0, "shaky"), recording(1, 1.0, "held")]
    what = order(recordings, tmp_path, crash_folder=str(tmp_path))
    before = at_rest(local_ray)
    driver = threading.Thread(target=run, args=(what,))
    driver.start()
    try:
        until(
            lambda seen: seen["retries_total"] >= 1,
            lambda: defaultdict(float, grown(told(local_ray), before)),
        )
    finally:
        (tmp_path / "held-0001.wav").touch()
        driver.join()
