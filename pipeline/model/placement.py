"""Which device and which numbers the language model gets, from what the user wrote."""

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CACHES = DTYPES | {"int8": torch.int8, "float8": torch.float8_e4m3fn}
FLOAT8_CAPABILITY = (8, 9)


def device_of(name: str) -> torch.device:
    """The named device; `auto` is the first NVIDIA GPU, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"there is no kind of device {name!r}; write cpu, cuda or cuda:1"
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {name}; NVIDIA GPUs: {torch.cuda.device_count()}")
    return device


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """The named type; `auto` is what the device is fast at."""
    if name != "auto":
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32
    return (
        torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    )


def cache_dtype_of(name: str, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The numbers in which keys and values are kept; `auto` is those of the language model."""
    if name == "float8" and device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < FLOAT8_CAPABILITY:
            raise ValueError(
                f"engine.cache float8 needs a GPU of capability 8.9 or more, {device} has "
                f"{capability[0]}.{capability[1]}; int8 takes the same memory"
            )
    return dtype if name == "auto" else CACHES[name]


def name_of(dtype: torch.dtype) -> str:
    """What the user calls these numbers."""
    return next(name for name, named in CACHES.items() if named == dtype)
