"""Files to shards with sound, whatever is wrong with the file."""

import wave
from pathlib import Path

import numpy as np
import pytest

from nightscribe.audio.segmentation import ShardConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.records import Failure, Recording
from nightscribe.runs.audio_reader import AudioReader, SourceConfig
from nightscribe.runs.shards import CutShard
from nightscribe.storage.locations import S3Config, open_file

RATE_HZ = 24_000
SHARD = ShardConfig(max_s=6.0, search_s=2.0, pause_s=0.2, margin_s=0.1, overlap_s=0.5)


def noise(duration_s: float, num_channels: int = 1, seed: int = 0) -> np.ndarray:
    shape = round(duration_s * RATE_HZ), num_channels
    return np.random.default_rng(seed).integers(-9000, 9000, shape).astype(np.int16)


def wav(path: Path, samples_NC: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((samples_NC.shape[1], 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(samples_NC.tobytes())
    return path


def planned(path: Path, **change) -> Recording:
    store, key = open_file(str(path), S3Config())
    entry = store.stat(key)
    return Recording(uri=str(path), size_bytes=entry.size_bytes, version=entry.version, **change)


def read(recording: Recording, channels: str = "mix") -> list[CutShard | Failure]:
    reader = AudioReader(
        sample_rate_hz=RATE_HZ,
        source=SourceConfig(channels=channels),
        shard=SHARD,
        guards=GuardsConfig(),
        s3=S3Config(),
    )
    return list(reader(recording))


def owned(cuts: list[CutShard]) -> np.ndarray:
    """The samples that the shards answer for, put together."""
    return np.concatenate(
        [
            cut.samples_N[cut.shard.owned_start_sample - cut.shard.start_sample :][
                : cut.shard.owned_end_sample - cut.shard.owned_start_sample
            ]
            for cut in cuts
        ]
    )


def test_the_shards_of_a_file_are_its_samples(tmp_path):
    samples_NC = noise(20)
    cuts = read(planned(wav(tmp_path / "a.wav", samples_NC)))
    assert len(cuts) > 3
    np.testing.assert_array_equal(owned(cuts), samples_NC[:, 0])
    assert [cut.shard.damage for cut in cuts] == [None] * len(cuts)


def test_split_channels_are_recordings_of_their_own(tmp_path):
    samples_NC = noise(8, num_channels=2)
    recording = planned(wav(tmp_path / "a.wav", samples_NC))
    cuts = read(recording, "split")
    for channel, expected in enumerate(recording.split(2)):
        own = [cut for cut in cuts if cut.shard.recording == expected]
        np.testing.assert_array_equal(owned(own), samples_NC[:, channel])
        assert own[-1].shard.is_last


def test_one_channel_is_not_split(tmp_path):
    (cut,) = read(planned(wav(tmp_path / "a.wav", noise(2))), "split")
    assert cut.shard.recording.channel is None


@pytest.mark.parametrize("channels", ["mix", "split"])
def test_the_manifests_channel_goes_first(tmp_path, channels):
    samples_NC = noise(3, num_channels=3)
    (cut,) = read(planned(wav(tmp_path / "a.wav", samples_NC), channel=1), channels)
    np.testing.assert_array_equal(cut.samples_N, samples_NC[:, 1])


def test_a_channel_that_is_not_there_is_a_failure(tmp_path):
    (failure,) = read(planned(wav(tmp_path / "a.wav", noise(1)), channel=1))
    assert (failure.stage, failure.reason) == ("decode", "no_channel")


def test_opposite_channels_are_read(tmp_path):
    left_N = noise(3)[:, 0]
    (cut,) = read(planned(wav(tmp_path / "a.wav", np.stack([left_N, -left_N], axis=1))))
    np.testing.assert_array_equal(cut.samples_N, left_N)


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 9.5), (3.25, None), (2.5, 17.125), (11, 12)])
def test_a_span_of_the_manifest_is_read_and_nothing_beside_it(tmp_path, start_s, end_s):
    samples_NC = noise(20)
    cuts = read(planned(wav(tmp_path / "a.wav", samples_NC), start_s=start_s, end_s=end_s))
    end = None if end_s is None else round(end_s * RATE_HZ)
    np.testing.assert_array_equal(owned(cuts), samples_NC[round(start_s * RATE_HZ) : end, 0])
    assert cuts[0].shard.start_sample == 0


def test_a_span_behind_the_end_is_a_failure(tmp_path):
    (failure,) = read(planned(wav(tmp_path / "a.wav", noise(2)), start_s=5.0))
    assert (failure.stage, failure.reason) == ("decode", "empty")


def test_cuts_of_the_manifest_count_from_the_beginning_of_the_file(tmp_path):
    path = wav(tmp_path / "a.wav", noise(9))
    cuts = read(planned(path, start_s=1.0, cuts_s=(0.5, 3.0, 6.5)))
    ends_s = [cut.shard.owned_end_sample / RATE_HZ for cut in cuts]
    assert ends_s == [2.0, 5.5, 8.0]


def test_a_file_that_was_cut_off_gives_what_it_has_and_says_so(tmp_path):
    path = wav(tmp_path / "a.wav", noise(10))
    path.write_bytes(path.read_bytes()[: RATE_HZ * 2 * 7])
    cuts = read(planned(path))
    assert len(owned(cuts)) == pytest.approx(7 * RATE_HZ, abs=100)
    assert cuts[-1].shard.damage.startswith("truncated: ")
    assert [cut.shard.damage for cut in cuts[:-1]] == [None] * (len(cuts) - 1)


def test_a_span_before_the_damage_is_whole(tmp_path):
    path = wav(tmp_path / "a.wav", noise(10))
    path.write_bytes(path.read_bytes()[: RATE_HZ * 2 * 7])
    cuts = read(planned(path, end_s=5.0))
    assert cuts[-1].shard.damage is None


def test_a_file_that_is_shorter_than_the_manifest_says_is_damaged(tmp_path):
    (cut,) = read(planned(wav(tmp_path / "a.wav", noise(3)), expected_s=30.0))
    assert cut.shard.damage == "short: 3.00 s of the 30.00 s in the manifest"


def test_what_is_no_sound_is_one_failure(tmp_path):
    (tmp_path / "a.mp3").write_text("<html>Sign in</html>" * 99)
    (failure,) = read(planned(tmp_path / "a.mp3"))
    assert (failure.stage, failure.reason) == ("decode", "not_audio")


def test_a_file_that_changed_since_it_was_planned_is_not_read(tmp_path):
    recording = planned(wav(tmp_path / "a.wav", noise(1)))
    wav(tmp_path / "a.wav", noise(2))
    (failure,) = read(recording)
    assert (failure.stage, failure.reason) == ("fetch", "changed")


def test_a_file_that_is_gone_is_one_failure(tmp_path):
    recording = planned(wav(tmp_path / "a.wav", noise(1)))
    (tmp_path / "a.wav").unlink()
    (failure,) = read(recording)
    assert (failure.stage, failure.reason) == ("fetch", "not_found")
