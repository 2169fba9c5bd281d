"""`nightscribe live` sends all of the audio."""

import asyncio

import numpy as np
import soundfile

from nightscribe.jobs.live import LiveConfig, _blocks
from nightscribe.serving.client import FRAME_SAMPLES, SAMPLE_RATE_HZ


def test_the_blocks_of_a_file_are_all_of_it(tmp_path):
    sound_N = np.random.default_rng(0).integers(-9999, 9999, 3 * FRAME_SAMPLES + 7, np.int16)
    soundfile.write(tmp_path / "a.wav", sound_N, SAMPLE_RATE_HZ)

    async def blocks():
        return [block_N async for block_N in _blocks(LiveConfig(audio=str(tmp_path / "a.wav")))]

    np.testing.assert_array_equal(np.concatenate(asyncio.run(blocks())), sound_N)
