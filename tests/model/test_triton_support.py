"""Our kernels are used where Triton can compile them."""

import pytest

from nightscribe.model import triton_support


@pytest.mark.parametrize(
    ("installed", "is_enough"), [(("gcc",), True), (("clang",), True), ((), False)]
)
def test_one_compiler_is_enough(monkeypatch, installed, is_enough):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(triton_support, "find_spec", lambda name: name)
    monkeypatch.setattr(
        triton_support.shutil, "which", lambda name: name if name in installed else None
    )
    assert triton_support.has_triton.__wrapped__() == is_enough
