"""`nightscribe doctor` for this machine and for simulated GPUs."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nightscribe.engine.config import EngineConfig
from nightscribe.jobs import cli, doctor
from nightscribe.jobs.doctor import gpu_table
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.device import fit_report, local_device
from nightscribe.model.gpu_specs import GPUS, gpu_named
from nightscribe.model.loading import load_step_runner
from nightscribe.model.torch_private import has_packed_layers
from nightscribe.storage.s3 import source_of_credentials

ROOT = Path(__file__).parent.parent.parent
OLDER_CPU = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
SECRET = "sesame-open-sesame"


def examined(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["nightscribe", "doctor", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, *capsys.readouterr()


def test_the_table_of_the_documents_is_the_one_of_the_code():
    assert gpu_table() in (ROOT / "docs/gpus.md").read_text()


def test_the_table_has_every_gpu_and_more_memory_never_means_fewer_slots():
    rows = [line.strip("| ").split(" | ") for line in gpu_table().splitlines()[2:]]
    assert len(rows) == len(GPUS)
    by_memory = sorted(zip(GPUS, rows, strict=True), key=lambda pair: pair[0].memory_gb)
    for column in range(3, 9):
        slots = [int(row[column]) for _, row in by_memory]
        assert slots == sorted(slots)
        assert slots[0] > 0


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("T4", ("T4", (7, 5), 16)),
        ("nvidia tesla t4", ("T4", (7, 5), 16)),
        ("L40S 48GB", ("L40S", (8, 9), 48)),
        ("a100 40 gb", ("A100", (8, 0), 40)),
        ("RTX4090", ("RTX 4090", (8, 9), 24)),
        ("sm75", ("sm75", (7, 5), 16)),
        ("sm_90 94GB", ("sm90", (9, 0), 94)),
        ("sm120", ("sm120", (12, 0), 32)),
        ("sm61 11GB", ("sm61", (6, 1), 11)),
    ],
)
def test_gpus_are_known_by_name_and_capability(written, expected):
    gpu = gpu_named(written)
    assert (gpu.name, gpu.capability, gpu.memory_gb) == expected


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("T5", "there is no GPU 'T5' in the table (V100, T4, "),
        ("sm61", "does not say how much memory it has"),
    ],
)
def test_an_unknown_gpu_is_one_sentence(monkeypatch, capsys, written, complaint):
    code, out, err = examined(monkeypatch, capsys, f"simulate={written}")
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["--simulate", "T4"], ["--simulate=T4"], ["simulate=T4"]])
def test_for_a_simulated_gpu_the_environment_is_not_checked(monkeypatch, capsys, words):
    code, out, err = examined(monkeypatch, capsys, *words, "model=stt-2.6b-en")
    assert (code, err) == (0, "")
    assert "T4, capability 7.5, 16 GB of memory" in out
    assert "weights float16, computed in float16, cache float16: GPUs before Ampere" in out
    assert re.search(r"^  48 streams at once, 157 MB each$", out, re.M)
    assert "not measured on this device" in out
    assert "ffmpeg" not in out


def test_the_engine_options_are_used(monkeypatch, capsys):
    asked = [
        "simulate=L4",
        "model=stt-2.6b-en",
        "engine.dtype=int8",
        "engine.kv_cache_dtype=float8",
    ]
    _, out, _ = examined(monkeypatch, capsys, *asked)
    assert "weights int8, computed in bfloat16, cache float8" in out
    code, _, err = examined(monkeypatch, capsys, "simulate=T4", "engine.kv_cache_dtype=float8")
    assert code == 2
    assert "needs a GPU of capability 8.9 or more, T4 has 7.5" in err
    code, _, err = examined(monkeypatch, capsys, "simulate=T4", "engine.dtype=float8")
    assert (code, "engine.dtype=float8 needs a GPU of capability 8.9" in err) == (2, True)


def test_a_model_that_does_not_fit_is_reported(monkeypatch, capsys):
    code, out, _ = examined(monkeypatch, capsys, "simulate=T4 5GB", "model=stt-2.6b-en")
    assert code == 0
    assert "does not fit" in out
    assert "streams at once" not in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["engine.num_slots=60"], "60 streams at once do not fit, 50 would, 157 MB each"),
        (["engine.num_slots=50"], "50 streams at once, 157 MB each"),
        (["engine.num_slots=50", "engine.gpu_memory_share=0.3"], "does not fit; engine.dtype=int8"),
        (["engine.frames_per_pass=8"], "40 streams at once, 160 MB each"),
    ],
)
def test_requested_slots_are_compared_with_the_memory(monkeypatch, capsys, words, told):
    _, out, _ = examined(monkeypatch, capsys, "simulate=T4", "model=stt-2.6b-en", *words)
    assert f"  {told}" in out


def test_more_slots_for_short_streams_are_explained(monkeypatch, capsys):
    words = "simulate=H200", "model=stt-1b-en_fr"
    _, out, _ = examined(monkeypatch, capsys, *words, "engine.max_stream_s=10")
    assert "  1024 streams at once" in out
    assert "more than 256, since streams as short as engine.max_stream_s" in out
    assert "more than 256" not in examined(monkeypatch, capsys, *words)[1]


def test_this_machine_is_checked_without_any_connection(monkeypatch, capsys):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    code, out, _ = examined(monkeypatch, capsys, "model=tiny", "engine.device=cpu")
    assert code == 0
    first, *others = out.splitlines()
    assert re.search(r"\d cores.* GB of memory, \d+ GB free$", first)
    assert "  8 streams at once" in "\n".join(others)
    assert re.search(r"^ffmpeg \S+ at /", out, re.M)
    assert re.search(r"^Python 3.*torch .*ray ", out, re.M)
    assert "the hub was not contacted" in out
    assert "S3 credentials found (from env)" in out
    assert SECRET not in out


@pytest.mark.parametrize("answers", [True, False])
def test_whether_the_hub_answers_is_found_out_by_asking_it(monkeypatch, answers):
    def model_info(*_, **__):
        if not answers:
            raise ConnectionError

    monkeypatch.setattr(doctor.HfApi, "model_info", model_info)
    assert doctor._hub(contact=True).is_ok == answers


def test_the_reported_slots_are_those_of_the_loaded_model():
    wishes = EngineConfig(device="cpu", dtype="int8")
    tiny = open_model(ModelConfig(name="tiny", checkpoint="models/tiny"))
    found = fit_report(tiny.config, local_device("cpu"), wishes)
    assert max(load_step_runner(tiny, wishes).bucket_sizes) == found.num_slots


def test_a_missing_program_is_reported_with_exit_code_1(monkeypatch, capsys):
    def none_found(configured):
        raise ValueError("there is no ffmpeg")

    monkeypatch.setattr(doctor, "find_ffmpeg", none_found)
    code, out, _ = examined(monkeypatch, capsys, "model=tiny", "engine.device=cpu")
    assert code == 1
    assert "MISSING: there is no ffmpeg: no recording can be decoded\n" in out


def test_a_missing_library_is_reported(monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES", ("torch", "no-such-library"))
    finding = doctor._libraries()
    assert not finding.is_ok
    assert finding.sentence.startswith("no-such-library not installed (installed: torch ")


def test_only_local_checkpoints_are_checked(monkeypatch, capsys):
    code, _, err = examined(monkeypatch, capsys, "model=stt-2.6b-en-trfs", "simulate=T4")
    assert code == 2
    assert "kyutai/stt-2.6b-en-trfs is not on disk" in err


def test_the_shipped_model_is_found_from_any_folder(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, _ = examined(monkeypatch, capsys, "model=tiny")
    assert (code, "\ntiny\n" in out) == (0, True)


def test_missing_credentials_are_reported(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "BOTO_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    assert source_of_credentials() is None
    kept = tmp_path / "kept"
    kept.write_text(f"[default]\naws_access_key_id = name\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(kept))
    assert source_of_credentials() == "shared-credentials-file"
    assert SECRET not in doctor._credentials().sentence


@pytest.mark.parametrize(("env", "falls_back"), [({}, False), (OLDER_CPU, True)])
def test_the_doctor_names_what_falls_back_on_this_cpu(env, falls_back):
    if not falls_back and not has_packed_layers(torch.bfloat16):
        pytest.skip("this CPU has no AVX-512 for bfloat16")
    words = [sys.executable, "-m", "nightscribe", "doctor", "engine.device=cpu"]
    done = subprocess.run(words, env=os.environ | env, capture_output=True, text=True, check=True)
    assert ("CPU kernels of torch use AVX2" in done.stdout) == falls_back
    assert ("fallback: this CPU packs no bfloat16 layers" in done.stdout) == falls_back
