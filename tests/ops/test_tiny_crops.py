"""Crops of shards: text, sound and targets are of the same moment."""

import json

import numpy as np
import pytest

from nightscribe.training.targets import TextLayout, TimedTokens, delayed_text
from ops.tiny.crops import CropLoader
from ops.tiny.sizes import CONFIG, DELAY_FRAMES, MIMI
from ops.tiny.targets import StoredTensors

WINDOW_FRAMES, CROP = 192, 128
WORDS = [("one", 1.0, 1.4), ("two", 4.0, 4.5), ("one", 9.0, 9.6)]
TOKENS = {"one": (10,), "two": (11,)}
LAYOUT = TextLayout.of(CONFIG)


def write_shard(folder, number: int) -> None:
    """What the convolutions say is the number of the position, so that a crop tells its place."""
    positions = np.arange(WINDOW_FRAMES * MIMI.positions_per_frame, dtype=np.float16)
    convolved = np.broadcast_to(positions[None, :, None], (2, len(positions), MIMI.dim))
    np.save(folder / f"{number:06}.npy", convolved)
    row = json.dumps({"words": WORDS, "phones": [["w", 1.0, 1.4]]})
    (folder / f"{number:06}.jsonl").write_text(f"{row}\n{row}\n")


@pytest.fixture
def loader(tmp_path, monkeypatch):
    monkeypatch.setattr("ops.tiny.crops.ROUGHNESS", 0.0)
    monkeypatch.setattr("ops.tiny.crops.MAX_GAPS", 0)
    write_shard(tmp_path, 0)
    names = StoredTensors(["w"]), StoredTensors(["one", "two"])
    return CropLoader(tmp_path, TOKENS.__getitem__, *names)


def drawn(loader, seed: int):
    loader.refresh()
    return loader.draw(8, CROP, np.random.default_rng(seed))


def test_text_is_that_of_the_sound(loader):
    words = [TimedTokens(TOKENS[t], s, e) for t, s, e in WORDS]
    whole = delayed_text(words, WINDOW_FRAMES, LAYOUT)
    crops = drawn(loader, 0)
    firsts = crops.convolved_BTD[:, 0, 0].long() // MIMI.positions_per_frame
    assert len(set(firsts.tolist())) > 2
    for first, written_P, words_F in zip(
        firsts.tolist(), crops.written_BP, crops.words_BF, strict=True
    ):
        # Words that were said before the crop began are not asked for.
        before = DELAY_FRAMES if first else 0
        np.testing.assert_array_equal(written_P[before:], whole[first + before : first + CROP + 1])
        assert (written_P[: before - 1] == LAYOUT.padding_id).all() or not first
        is_two_F = np.flatnonzero(words_F.numpy() == 2)
        if len(is_two_F) and is_two_F[0] > 0:
            # A word is a target of the codec once most of it has passed.
            assert 4.3 < (first + is_two_F[0] + 1) / MIMI.frame_rate_hz < 4.5


def test_what_the_model_reads_is_the_text_before_partly_spoilt(loader):
    crops = drawn(loader, 1)
    right = crops.text_BP[:, 1:] == crops.written_BP[:, :-1]
    assert (crops.text_BP[:, 0] == LAYOUT.start_id).all()
    is_word = crops.written_BP[:, :-1] > 3
    assert right[~is_word].all()
    assert 0.3 < right[is_word].float().mean() < 1


def test_shards_that_come_later_are_heard(loader):
    assert loader.refresh() == 1
    write_shard(loader.folder, 7)
    assert loader.refresh() == 2


def test_a_shard_without_labels_is_not_there_yet(loader):
    np.save(loader.folder / "000009.npy", np.zeros(3))
    assert loader.refresh() == 1
