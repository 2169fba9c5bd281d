"""Modules that are made without memory get it from what is read."""

import subprocess
import sys

MADE = """
import sys
import torch
from nightscribe.model.native_tensors import give_memory, without_memory

with without_memory():
    made = torch.nn.BatchNorm1d(3)
    made.weight.requires_grad_(False)
give_memory(made, "cpu")
assert {str(one.device) for one in made.state_dict().values()} == {"cpu"}
assert made.state_dict().keys() == torch.nn.BatchNorm1d(3).state_dict().keys()
print(made.weight.requires_grad, made.bias.requires_grad, made.num_batches_tracked.dtype)
print("sympy" in sys.modules)
"""


def test_memory_is_given_without_the_symbolic_algebra_of_torch():
    ended = subprocess.run([sys.executable, "-c", MADE], capture_output=True, text=True)
    assert ended.stdout.splitlines() == ["False True torch.int64", "False"], ended.stderr
