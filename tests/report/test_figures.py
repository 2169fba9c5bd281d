import io
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from nightscribe.report.charts import Line, line_chart
from nightscribe.report.content import Progress
from nightscribe.report.figure import throughput_png
from nightscribe.report.sound import peaks, sound_of
from nightscribe.report.throughput import MAX_POINTS, rates
from tests.report.samples import RATE_HZ, beeping_words, beeps


def test_rates_times_durations_add_up_to_the_audio():
    progress = [Progress(float(t), t * t * 3.0, 0.9) for t in range(0, 5_000, 3)]
    found = rates(progress)
    assert len(found) <= MAX_POINTS + 1
    middles = np.array([rate.elapsed_s for rate in found])
    assert [rate.times_real_time for rate in found] == pytest.approx(6.0 * middles)


def test_moments_told_twice_are_no_infinite_speed():
    progress = [Progress(0, 0, 0), Progress(10, 50, 1), Progress(10, 50, 1), Progress(20, 90, 1)]
    assert [rate.times_real_time for rate in rates(progress)] == [5.0, 4.0]


def test_a_chart_draws_its_values_where_its_axes_say():
    chart = line_chart(Line("speed", [0.0, 50.0, 100.0], [0.0, 100.0, 50.0]))
    path = re.search(r'class="line" d="M([^"]*)"', chart)[1]
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in path.split("L"))
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y0 - y1 == pytest.approx(2 * (y2 - y1), abs=0.2)
    marks = re.findall(r">([\d.,]+)</text>", chart)
    assert marks == ["0", "25", "50", "75", "100"]
    assert re.findall(r">([\d.]+ \w+)</text>", chart) == [f"{t} s" for t in (20, 40, 60, 80, 100)]


def test_too_little_to_draw_is_no_chart():
    assert line_chart(Line("speed", [1.0], [2.0])) == ""


def test_the_png_is_a_picture_with_a_curve():
    progress = [Progress(60.0 * t, 60.0 * t * 200, 0.9) for t in range(30)]
    picture = np.asarray(Image.open(io.BytesIO(throughput_png("run", progress))).convert("RGB"))
    is_blue = (abs(picture.astype(int) - [0x32, 0x57, 0xD6]) < 12).all(axis=2)
    assert picture.shape[1] > 1_000
    assert is_blue.any(axis=0).sum() > picture.shape[1] / 2


def test_peaks_follow_the_sound():
    samples_N = np.concatenate([np.zeros(8_000), np.full(8_000, 5_000), np.full(8_000, -10_000)])
    outline = peaks(samples_N.astype(np.int16))
    third = len(outline) // 3
    assert set(outline[: third - 1]) == {0}
    assert set(outline[third + 1 : 2 * third - 1]) == {50}
    assert set(outline[2 * third + 1 :]) == {100}


@pytest.mark.parametrize("num_samples", [0, 1, 100])
def test_peaks_of_next_to_nothing(num_samples):
    assert len(peaks(np.zeros(num_samples, np.int16))) == max(num_samples, 1)


def test_compressed_sound_keeps_its_length_and_place():
    words = beeping_words("one two three")
    sound = sound_of(beeps(words, 3.0), RATE_HZ)
    heard, rate_hz = soundfile.read(io.BytesIO(sound.mp3))
    assert sound.duration_s == 3.0
    assert len(sound.mp3) < 20_000
    loud_s = np.flatnonzero(abs(heard) > 0.1) / rate_hz
    starts_s = [loud_s[0], *loud_s[1:][np.diff(loud_s) > 0.05]]
    assert starts_s == pytest.approx([word.start_s for word in words], abs=0.03)
