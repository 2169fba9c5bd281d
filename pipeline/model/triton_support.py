"""Whether our Triton kernels can run."""

import logging
import os
import shutil
import sysconfig
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

log = logging.getLogger(__name__)

C_COMPILERS = ("gcc", "clang")


def uses_kernels(x: Tensor) -> bool:
    """Whether operators on this tensor are our fused kernels; those have no gradients."""
    return x.is_cuda and not x.requires_grad and has_triton()


def kernels() -> ModuleType:
    """The fused kernels, whose module cannot be imported without Triton."""
    return import_module("nightscribe.model.fused_kernels")


def widens_in_registers(x: Tensor) -> bool:
    """Whether products with quantized weights are our kernels: not before Ampere.

    There, Triton has no matrix products on tensor cores.
    """
    return uses_kernels(x) and torch.cuda.get_device_capability(x.device) >= (8, 0)


def kernels_of_weights() -> ModuleType:
    """The kernels for products with quantized weights."""
    return import_module("nightscribe.model.weight_kernels")


@cache
def has_triton() -> bool:
    missing = missing_for_triton()
    if missing is not None:
        log.warning("%s: attention reads whole rings, operators are not fused", missing)
    return missing is None


def missing_for_triton() -> str | None:
    """Why our kernels cannot be compiled, if so. Triton also compiles C, for its driver."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    if "CC" not in os.environ and not any(map(shutil.which, C_COMPILERS)):
        return "Triton finds no C compiler (gcc)"
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # as Triton does
    header = Path(sysconfig.get_paths(scheme=scheme)["include"], "Python.h")
    return None if header.exists() else f"Triton needs the headers of Python ({header})"
