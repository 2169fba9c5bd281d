"""Loading needs little more memory than the model itself."""

import subprocess
import sys
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nightscribe.model.checkpoints.opened import language_model_shapes
from tests.model.checkpoints.weights import random_weights, write_beside_language_model

ROOT = Path(__file__).parents[3]
LOAD = """
import sys, torch
from pathlib import Path
from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.language_model import LanguageModel

def memory_bytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))

before = memory_bytes("VmRSS")
checkpoint = open_checkpoint(sys.argv[1])
tensors = checkpoint.language_model_tensors()
LanguageModel.load(checkpoint.config.language_model, tensors, "cpu", torch.bfloat16)
sys.stdout.write(str(memory_bytes("VmHWM") - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc/self/status")
def test_loading_peaks_below_a_file_and_a_third(tmp_path):
    weights = random_weights()
    config = replace(weights.config, dim=1024, num_heads=8, ffn_dim=2816, num_layers=12)
    write_beside_language_model(tmp_path, replace(weights, config=config))
    shapes = language_model_shapes(config)
    tensors = {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    size_bytes = 2 * sum(map(prod, shapes.values()))
    assert size_bytes > 250_000_000
    load = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert load.returncode == 0, load.stderr
    assert size_bytes < int(load.stdout) < 1.3 * size_bytes
