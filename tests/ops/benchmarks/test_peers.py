"""The compared implementations give the same tokens with the same weights."""

import numpy as np
import pytest
import torch

from nightscribe.benchmarks.measurements import noise
from nightscribe.benchmarks.random_weights import SIZES, config_of
from nightscribe.model.config import LanguageModelConfig
from ops.benchmarks import peers
from ops.benchmarks.clips import measure_clips, transcribe
from ops.benchmarks.codec import measure_codec
from ops.benchmarks.peers import load_peers
from ops.benchmarks.side_by_side import OTHERS, Setup
from ops.benchmarks.steps import measure_steps
from tests.benchmarks.test_report import parsed

CPU = torch.device("cpu")
NUM_FRAMES = 9  # fewer than the codec's window, which is another in transformers


def setup_of(*names: str) -> Setup:
    return Setup(device=CPU, dtype=torch.float32, num_slots=(1, 2), peers=names, repeats=1)


def test_with_the_same_weights_all_give_the_same_tokens():
    pytest.importorskip("moshi")
    pytest.importorskip("transformers")
    loaded = load_peers(config_of("toy"), setup_of(*OTHERS))
    samples_SN = np.stack([noise(NUM_FRAMES * 1920, seed) for seed in range(3)])
    waveforms_SN = torch.from_numpy(samples_SN) / 32768
    moshi_SF = loaded.moshi.transcribe(waveforms_SN).numpy()
    transformers_SF = loaded.transformers.transcribe(waveforms_SN).numpy()
    ours_SF = transcribe(loaded.runner(3, 25), samples_SN)
    assert np.array_equal(ours_SF, moshi_SF)
    # Theirs stops before the last frame.
    assert np.array_equal(ours_SF[:, :-1], transformers_SF)
    assert len(np.unique(ours_SF)) > 10


@pytest.mark.parametrize("present", [(), ("moshi",)])
def test_a_peer_that_is_not_installed_is_noted_and_its_cells_are_empty(monkeypatch, present):
    for peer in present:
        pytest.importorskip(peer)
    monkeypatch.setattr(peers, "find_spec", lambda name: name in present or None)
    config, asked = config_of("toy"), setup_of(*OTHERS)
    for table in (
        measure_steps(config, asked, history=24, num_steps=2),
        measure_codec(config, asked, num_frames=2),
        measure_clips(config, asked, num_frames=3),
    ):
        for row in parsed(table.markdown()):
            assert float(row["ours ms"].replace(",", "")) > 0
            assert bool(row["x moshi"]) is ("moshi" in present)
            assert not row["x transformers"]
        absent = {f"{peer} is not installed: not measured." for peer in set(OTHERS) - set(present)}
        assert absent <= set(table.notes)


def test_the_sizes_are_those_of_the_published_models():
    configs = {size: config_of(size).language_model for size in SIZES}
    assert _num_weights(configs["1b"]) == pytest.approx(0.99e9, rel=0.01)
    assert _num_weights(configs["2.6b"]) == pytest.approx(2.617e9, rel=0.01)
    assert config_of("1b", num_layers=2).language_model.num_layers == 2


def _num_weights(config: LanguageModelConfig) -> int:
    layer = 4 * config.dim**2 + 3 * config.dim * config.ffn_dim
    rows = config.num_codebooks * (config.audio_card + 1) + config.num_text_rows + config.text_card
    return config.num_layers * layer + rows * config.dim
