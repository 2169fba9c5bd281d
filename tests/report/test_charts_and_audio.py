import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

from nightscribe.report.audio import embed_audio, peaks
from nightscribe.report.charts import (
    MAX_POINTS,
    Series,
    line_chart,
    throughput_points,
    throughput_svg,
)
from nightscribe.report.content import ProgressPoint
from tests.report.samples import RATE_HZ, beeping_words, beeps


def test_throughput_times_durations_adds_up_to_the_audio():
    progress = [ProgressPoint(float(t), t * t * 3.0, 0.9) for t in range(0, 5_000, 3)]
    found = throughput_points(progress)
    assert len(found) <= MAX_POINTS + 1
    middles = np.array([point.elapsed_s for point in found])
    assert [point.times_real_time for point in found] == pytest.approx(6.0 * middles)


def test_repeated_points_give_no_infinite_throughput():
    progress = [
        ProgressPoint(0, 0, 0),
        ProgressPoint(10, 50, 1),
        ProgressPoint(10, 50, 1),
        ProgressPoint(20, 90, 1),
    ]
    assert [point.times_real_time for point in throughput_points(progress)] == [5.0, 4.0]


def test_a_chart_draws_its_values_where_its_axes_say():
    chart = line_chart(Series("speed", [0.0, 50.0, 100.0], [0.0, 100.0, 50.0]))
    path = re.search(r'class="line" d="M([^"]*)"', chart)[1]
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in path.split("L"))
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y0 - y1 == pytest.approx(2 * (y2 - y1), abs=0.2)
    marks = re.findall(r">([\d.,]+)</text>", chart)
    assert marks == ["0", "25", "50", "75", "100"]
    assert re.findall(r">([\d.]+ \w+)</text>", chart) == [f"{t} s" for t in (20, 40, 60, 80, 100)]


def test_too_little_to_draw_is_no_chart():
    assert line_chart(Series("speed", [1.0], [2.0])) == ""


def test_the_throughput_file_is_an_svg_with_a_curve_over_most_of_its_width():
    progress = [ProgressPoint(60.0 * t, 60.0 * t * 200, 0.9) for t in range(30)]
    svg = ElementTree.fromstring(throughput_svg("run <1>", progress))
    width, height = (int(svg.get(name)) for name in ("width", "height"))
    assert width > 500
    throughput, occupancy = svg.iterfind(".//{*}path[@class='line']")
    for line in (throughput, occupancy):
        points = [tuple(map(float, point.split(","))) for point in line.get("d")[1:].split("L")]
        assert points[-1][0] - points[0][0] > width / 2
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    texts = [text.text for text in svg.iterfind(".//{*}text")]
    assert texts[0] == "run <1>"
    assert {"Throughput, times real time", "Slot occupancy, percent"} <= set(texts)
    assert ".line{fill:none;stroke:#2f55d4" in svg.find("{*}style").text


def test_unknown_occupancy_has_no_panel_in_the_throughput_file():
    known, unknown = (
        throughput_svg("run", [ProgressPoint(60.0 * t, t * 200, share) for t in range(30)])
        for share in (0.9, None)
    )
    assert known.count('class="line"') == 2
    assert unknown.count('class="line"') == 1


def test_peaks_follow_the_samples():
    samples_N = np.concatenate([np.zeros(8_000), np.full(8_000, 5_000), np.full(8_000, -10_000)])
    outline = peaks(samples_N.astype(np.int16))
    third = len(outline) // 3
    assert set(outline[: third - 1]) == {0}
    assert set(outline[third + 1 : 2 * third - 1]) == {50}
    assert set(outline[2 * third + 1 :]) == {100}


@pytest.mark.parametrize("num_samples", [0, 1, 100])
def test_peaks_of_next_to_nothing(num_samples):
    assert len(peaks(np.zeros(num_samples, np.int16))) == max(num_samples, 1)


def test_compressed_audio_keeps_its_length_and_place():
    words = beeping_words("one two three")
    embedded = embed_audio(beeps(words, 3.0), RATE_HZ)
    decoded, rate_hz = soundfile.read(io.BytesIO(embedded.mp3))
    assert embedded.duration_s == 3.0
    assert len(embedded.mp3) < 20_000
    loud_s = np.flatnonzero(abs(decoded) > 0.1) / rate_hz
    starts_s = [loud_s[0], *loud_s[1:][np.diff(loud_s) > 0.05]]
    assert starts_s == pytest.approx([word.start_s for word in words], abs=0.03)
