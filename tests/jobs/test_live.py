"""`nightscribe live` sends all of the audio, and shows words and pauses on a terminal."""

import asyncio
import io

import numpy as np
import pyte
import soundfile
from rich.console import Console

from nightscribe.jobs.live import LiveConfig, View, _blocks
from nightscribe.serving.client import FRAME_SAMPLES, SAMPLE_RATE_HZ, LivePause, LiveWord


def test_the_blocks_of_a_file_are_all_of_it(tmp_path):
    sound_N = np.random.default_rng(0).integers(-9999, 9999, 3 * FRAME_SAMPLES + 7, np.int16)
    soundfile.write(tmp_path / "a.wav", sound_N, SAMPLE_RATE_HZ)

    async def blocks():
        return [block_N async for block_N in _blocks(LiveConfig(audio=str(tmp_path / "a.wav")))]

    np.testing.assert_array_equal(np.concatenate(asyncio.run(blocks())), sound_N)


def test_a_bar_behind_the_words_rises_with_a_pause_and_goes_with_the_next_word():
    screen, out = pyte.Screen(40, 3), io.StringIO()
    view = View(Console(file=out, force_terminal=True, width=40), "text")

    def shown(event):
        view.show(event)
        pyte.Stream(screen).feed(out.getvalue().replace("\n", "\r\n"))
        out.seek(0)
        out.truncate()
        return [line.rstrip() for line in screen.display]

    assert shown(LiveWord("well", 0.5, 1.0)) == ["well", "", ""]
    assert shown(LivePause((0.1, 0.1, 0.5))) == ["well ▄", "", ""]
    assert shown(LivePause((0.1, 0.1, 1.0))) == ["well █", "", ""]
    assert shown(LiveWord("then", 1.5, 1.0)) == ["well then", "", ""]
