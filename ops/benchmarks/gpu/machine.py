"""The machine: versions, bandwidth of its memory, rates of the products that models need."""

import importlib.metadata
import platform
import sys
from functools import partial

import torch

from nightscribe.benchmarks.measurements import (
    copy_bytes_per_s,
    in_turns,
    medians,
    read_bytes_per_s,
)
from nightscribe.benchmarks.random_weights import config_of
from nightscribe.benchmarks.report import Table, machine_name
from nightscribe.model.config import LanguageModelConfig
from nightscribe.model.device import dtype_of, name_of, set_tf32
from nightscribe.model.triton_support import missing_for_triton
from ops.benchmarks.gpu.stage import Stage

PACKAGES = ("torch", "triton", "numpy", "transformers", "moshi", "pytest")
NUM_ROWS = (8, 64, 256)
REPEATS = 5
CALLS = 20  # per turn, at most
MATRICES_BYTES = 256 << 20  # more than the cache of any GPU holds
CODEC_ROWS = 3200  # of a group of 64 streams, 25 frames each
CPU_ROWS = 8
CODEC_WIDTH, CODEC_HIDDEN = 512, 2048
VERSIONS, BANDWIDTH, PRODUCTS = "Versions", "Bandwidth", "Matrix products"


def main(stage: Stage) -> None:
    stage.measure("versions", versions_table, stage.device)
    stage.measure("bandwidth", bandwidth_table, stage.device)
    stage.measure("products", products_table, stage)


def versions_table(device: torch.device) -> Table:
    rows = [("device", machine_name(device)), ("Python", platform.python_version())]
    rows += [(name, _version(name)) for name in PACKAGES]
    rows.append(("our kernels", missing_for_triton() or "can be compiled"))
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        rows += [
            ("CUDA", str(torch.version.cuda)),
            ("cuDNN", str(torch.backends.cudnn.version())),
            ("capability", f"{properties.major}.{properties.minor}"),
            ("memory, GB", f"{properties.total_memory / 1e9:.1f}"),
        ]
    return Table(title=VERSIONS, columns=("what", "version"), rows=rows)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def bandwidth_table(device: torch.device) -> Table:
    rates = {"copy": copy_bytes_per_s(device), "read only": read_bytes_per_s(device)}
    return Table(
        title=BANDWIDTH,
        columns=("what", "GB/s"),
        rows=[(name, rate / 1e9) for name, rate in rates.items()],
        notes=("Of a copy, bytes read and written.",),
    )


def products_table(stage: Stage) -> Table:
    dtype = dtype_of("auto", stage.device)
    rows = [
        (size, name_of(dtype), what, num_rows, *_product(num_rows, *shape, dtype, stage.device))
        for size in stage.sizes
        for what, shape in _shapes(config_of(size).language_model).items()
        for num_rows in NUM_ROWS
    ]
    for tf32 in ("none", "all"):
        set_tf32(tf32)
        shape = CODEC_ROWS if stage.is_cuda else CPU_ROWS, CODEC_WIDTH, CODEC_HIDDEN
        cost = _product(*shape, torch.float32, stage.device)
        rows.append(
            ("Mimi", "TF32" if tf32 == "all" else "float32", "feed-forward", shape[0], *cost)
        )
    return Table(
        title=PRODUCTS,
        columns=("model", "dtype", "matrix", "rows", "us", "GB/s of weights", "TFLOP/s"),
        rows=rows,
    )


def _shapes(model: LanguageModelConfig) -> dict[str, tuple[int, int]]:
    """Columns and rows of the four matrices of a layer."""
    return {
        "queries, keys, values": (model.dim, 3 * model.dim),
        "attention output": (model.dim, model.dim),
        "feed-forward in": (model.dim, 2 * model.ffn_dim),
        "feed-forward out": (model.ffn_dim, model.dim),
    }


def _product(
    num_rows: int, width: int, height: int, dtype: torch.dtype, device: torch.device
) -> tuple[float, float, float]:
    """Microseconds, GB/s and TFLOP/s of one product.

    Several matrices in turn, so that each is read from memory.
    """
    item_bytes = torch.finfo(dtype).bits // 8
    num_matrices = -(-MATRICES_BYTES // (width * height * item_bytes))
    num_matrices = min(CALLS, num_matrices) if device.type == "cuda" else 1
    weights = [torch.randn(height, width, device=device).to(dtype) for _ in range(num_matrices)]
    x = torch.randn(num_rows, width, device=device).to(dtype)
    action = partial(_each, x, weights)
    repeats = REPEATS if device.type == "cuda" else 1
    call_s = medians(in_turns({"": action}, repeats, device)[""]).wall_s / num_matrices
    flops = 2 * num_rows * width * height
    return 1e6 * call_s, width * height * item_bytes / call_s / 1e9, flops / call_s / 1e12


def _each(x: torch.Tensor, weights: list[torch.Tensor]) -> None:
    for weight in weights:
        torch.nn.functional.linear(x, weight)


if __name__ == "__main__":
    running = Stage.of("machine", sys.argv[1:])
    main(running)
    running.end()
