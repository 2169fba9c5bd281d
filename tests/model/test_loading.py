"""A checkpoint is loaded onto its device with as many slots as fit."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from nightscribe.engine.config import EngineConfig
from nightscribe.engine.loop import step_engine
from nightscribe.engine.stream import Stream
from nightscribe.model import device, loading
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.native_config import PUBLISHED
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.device import free_bytes_of
from nightscribe.model.language_model import LanguageModel

NO_ROOM = torch.OutOfMemoryError("no room")


@pytest.fixture(scope="module")
def tiny():
    return open_model(ModelConfig(name="tiny", checkpoint="models/tiny"))


@pytest.fixture
def room_for(monkeypatch):
    """Let memory for keys and values run out beyond a number of slots."""
    plain, tried = LanguageModel.empty_cache, []

    def limit(most, error=NO_ROOM):
        def empty_cache(self, num_slots, *args, **kwargs):
            tried.append(num_slots)
            if num_slots > most:
                raise error
            return plain(self, num_slots, *args, **kwargs)

        monkeypatch.setattr(LanguageModel, "empty_cache", empty_cache)
        return tried

    return limit


def tokens_of(model):
    sound_N = (np.random.default_rng(0).standard_normal(1920 * 5) * 3000).astype(np.int16)
    (heard,) = step_engine(model).run([Stream(0, sound_N, 8)])
    return heard.tokens_T.tolist()


def test_too_little_memory_at_the_start_halves_the_slots_instead_of_dying(tiny, room_for, caplog):
    whole = loading.load_step_runner(tiny, EngineConfig(device="cpu", num_slots=4))
    tried = room_for(5)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger=loading.log.name):
        model = loading.load_step_runner(tiny, EngineConfig(device="cpu", num_slots=32))
    assert tried == [32, 16, 8, 4]
    assert max(model.bucket_sizes) == 4
    assert [record.message for record in caplog.records] == [
        "32 slots do not fit; trying 16",
        "16 slots do not fit; trying 8",
        "8 slots do not fit; trying 4",
    ]
    assert tokens_of(model) == tokens_of(whole)


def refused_by_the_allocator():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    return caught.value


def failed_amidst(first):
    error = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    error.__context__ = first
    return error


@pytest.mark.parametrize(
    "error",
    [
        refused_by_the_allocator(),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        failed_amidst(NO_ROOM),
    ],
    ids=["allocator", "python", "driver", "library", "recording"],
)
def test_want_of_memory_is_known_by_whatever_name(tiny, room_for, error):
    tried = room_for(2, error)
    loading.load_step_runner(tiny, EngineConfig(device="cpu", num_slots=4))
    assert tried == [4, 2]


def test_other_errors_than_out_of_memory_are_raised_at_once(tiny, room_for):
    tried = room_for(2, RuntimeError("expected a different shape"))
    with pytest.raises(RuntimeError, match="expected a different shape"):
        loading.load_step_runner(tiny, EngineConfig(device="cpu", num_slots=4))
    assert tried == [4]


def test_a_cpu_is_not_asked_for_slots_that_its_memory_does_not_hold(tiny, monkeypatch, caplog):
    monkeypatch.setattr(loading, "free_bytes_of", lambda device: 160_000_000)
    with caplog.at_level(logging.WARNING, logger=loading.log.name):
        model = loading.load_step_runner(tiny, EngineConfig(device="cpu", num_slots=200))
    taken = max(model.bucket_sizes)
    assert 1 <= taken < 100
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("200 slots take ")
    assert line.endswith(f" GB, cpu has 0.2 GB free; using {taken} slots")


def test_where_not_even_one_slot_fits_the_error_is_raised(tiny, room_for):
    tried = room_for(0)
    with pytest.raises(torch.OutOfMemoryError):
        loading.load_step_runner(tiny, EngineConfig(device="cpu", num_slots=3))
    assert tried == [3, 1]


def test_several_frames_a_pass_are_paid_for(tiny):
    told = []
    for frames_per_pass in (1, 4):
        config = EngineConfig(device="cpu", num_slots=2, frames_per_pass=frames_per_pass)
        numbers = loading.precision_of("float32", "auto", None, "cpu")
        told.append(loading.budget_for(tiny.config, numbers, config, "cpu", 1e9).per_slot)
    assert told[0] < told[1]


def test_the_log_gives_precision_slots_and_memory(tiny, caplog):
    with caplog.at_level(logging.INFO, logger="nightscribe.model.loading"):
        loading.load_step_runner(tiny, EngineConfig(device="cpu", num_slots=2, dtype="int8"))
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("cpu: weights int8, activations bfloat16, KV cache bfloat16, 2 slots: ")
    assert line.count(" GB") == 5


@pytest.mark.parametrize(("device", "size"), [("cuda:0", "5.5"), ("cpu", "10.7")])
@pytest.mark.parametrize("num_slots", [None, 2])
def test_a_model_that_cannot_fit_is_refused_before_a_weight_is_read(
    monkeypatch, tiny, device, size, num_slots
):
    monkeypatch.setattr(loading, "device_of", lambda name: torch.device(device))
    monkeypatch.setattr(
        loading, "capability_of", lambda device: (8, 6) if device.type == "cuda" else None
    )
    monkeypatch.setattr(loading, "free_bytes_of", lambda device: 4_000_000_000)
    monkeypatch.setattr(loading, "total_bytes_of", lambda device: 8_000_000_000)
    unread = replace(tiny, config=PUBLISHED["stt-2.6b-en"])
    with pytest.raises(ValueError, match=rf"takes {size} GB, {device} has 4\.0 GB free; .*int8"):
        loading.load_step_runner(unread, EngineConfig(num_slots=num_slots))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "int4", "float8"])
def test_every_precision_transcribes_to_the_end(tiny, dtype):
    exact = tokens_of(loading.load_step_runner(tiny, EngineConfig(device="cpu", num_slots=2)))
    config = EngineConfig(device="cpu", num_slots=2, dtype=dtype)
    assert len(tokens_of(loading.load_step_runner(tiny, config))) == len(exact)


@pytest.fixture
def a_gpu(monkeypatch):
    """One that has 16 GB, half of them free, for everything but the weights."""
    monkeypatch.setattr(loading, "device_of", lambda name: torch.device("cuda:0"))
    monkeypatch.setattr(loading, "capability_of", lambda device: (9, 0))
    monkeypatch.setattr(loading, "free_bytes_of", lambda device: 8_000_000_000)
    monkeypatch.setattr(loading, "total_bytes_of", lambda device: 16_000_000_000)
    monkeypatch.setattr(loading, "_load_weights", lambda *args: None)
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])


@pytest.mark.usefixtures("a_gpu")
def test_engines_that_share_a_gpu_share_its_memory(tiny):
    published = replace(tiny, config=PUBLISHED["stt-1b-en_fr"])
    whole, half, quarter, tenth = (
        loading._load(published, EngineConfig(gpu_memory_share=share))
        for share in (1, 0.5, 0.4, 0.3)
    )
    assert whole.num_slots == half.num_slots > quarter.num_slots > tenth.num_slots
    with pytest.raises(ValueError, match=r"cuda:0 has 1\.6 GB free"):
        loading._load(published, EngineConfig(gpu_memory_share=0.1))


@pytest.mark.parametrize(
    ("tf32", "convolutions", "matrices"),
    [
        ("none", False, False),
        ("convolutions", True, False),
        ("codec", True, False),
        ("all", True, True),
    ],
)
@pytest.mark.usefixtures("a_gpu")
def test_products_are_rounded_as_asked(tiny, tf32, convolutions, matrices):
    loaded = loading._load(tiny, EngineConfig(tf32=tf32))
    assert loaded.options.rounds_codec == (tf32 == "codec")
    assert torch.backends.cudnn.allow_tf32 == convolutions
    assert (torch.get_float32_matmul_precision() == "high") == matrices


@pytest.mark.parametrize(
    ("limit", "left_bytes"), [("max\n", 9_000_000), ("5000000\n", 3_500_000), ("10\n", 0)]
)
def test_a_container_s_limit_counts(monkeypatch, tmp_path, limit, left_bytes):
    (tmp_path / "meminfo").write_text("MemTotal: 99999 kB\nMemAvailable: 8789 kB\n")
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("2000000\n")
    (tmp_path / "memory.stat").write_text("anon 1500000\ninactive_file 500000\n")
    monkeypatch.setattr(device, "MEMORY_FILE", tmp_path / "meminfo")
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    assert loading.free_bytes_of(torch.device("cpu")) == pytest.approx(left_bytes, abs=1000)


def test_memory_that_may_be_taken_is_some_of_this_machine_s():
    free_bytes = free_bytes_of(torch.device("cpu"))
    assert 100e6 < free_bytes < 1e14
