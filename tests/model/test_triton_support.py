"""Our kernels are used where Triton can compile them."""

import sysconfig

import pytest

from nightscribe.model import triton_support


@pytest.fixture
def headers(monkeypatch, tmp_path):
    """The folder of Python's headers."""
    monkeypatch.setattr(triton_support, "find_spec", lambda name: name)
    monkeypatch.setattr(sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path)})
    (tmp_path / "Python.h").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("installed", "is_enough"), [(("gcc",), True), (("clang",), True), ((), False)]
)
@pytest.mark.usefixtures("headers")
def test_one_compiler_is_enough(monkeypatch, installed, is_enough):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(
        triton_support.shutil, "which", lambda name: name if name in installed else None
    )
    assert triton_support.has_triton.__wrapped__() == is_enough


def test_without_the_headers_of_python_no_kernel_is_tried(monkeypatch, headers):
    monkeypatch.setenv("CC", "gcc")
    assert triton_support.has_triton.__wrapped__()
    (headers / "Python.h").unlink()
    assert not triton_support.has_triton.__wrapped__()
    assert "headers of Python" in triton_support.missing_for_triton()
