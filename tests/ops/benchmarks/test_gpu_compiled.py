"""What later stages of the GPU script time is compiled beside the first ones."""

import sys
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed: there is nothing to compile")

from nightscribe.benchmarks.report import Table
from ops.benchmarks.gpu import compiled, sweep
from ops.benchmarks.gpu.attention import CACHES
from ops.benchmarks.gpu.compiled import Form
from ops.benchmarks.gpu.stage import Stage


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """On a Hopper that is not here."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    sizes, device = ["1b", "2.6b"], torch.device("cuda")
    return Stage(name="trial", folder=tmp_path, sizes=sizes, device=device)


def test_every_form_that_is_timed_is_compiled_in_the_same_order(stage, monkeypatch):
    timed = []

    def tiles_table(device, size, dtype, num_queries):
        timed.extend(Form(size, dtype, num_queries, tile) for tile in sweep.tiles_to_try(device))
        return Table(title="", columns=(), rows=[])

    monkeypatch.setattr(sweep, "tiles_table", tiles_table)
    sweep.main(stage)
    forms = list(compiled.forms(stage))
    assert len(timed) == 9 * len(sweep.TILES_TO_TRY)
    in_use = forms[: -len(timed)]
    assert forms[len(in_use) :] == timed
    assert [(form.size, form.tile) for form in in_use] == [
        (size, None) for size in stage.sizes for _ in CACHES
    ]
    assert len({form.dtype for form in in_use}) == len(CACHES)


def test_a_form_that_does_not_compile_is_named_and_not_raised(monkeypatch):
    def refused(*arguments):
        raise RuntimeError("out of registers")

    # In place of the module, which would end the interpretation of kernels in this process.
    module = SimpleNamespace(attention_code=refused)
    monkeypatch.setitem(sys.modules, "ops.benchmarks.kernel_code", module)
    text = compiled.compiled(Form("1b", torch.int8, 3, None), 90)
    assert "torch.int8" in text
    assert "RuntimeError: out of registers" in text
