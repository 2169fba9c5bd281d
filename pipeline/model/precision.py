"""Which dtypes a device computes and stores in, by the options of the engine: no torch."""

from dataclasses import dataclass

WEIGHT_FORMATS = ("int8", "int4", "float8")  # of the matrices; everything else is 16 bits wide
BFLOAT16_CAPABILITY = (8, 0)  # Ampere
FLOAT8_CAPABILITY = (8, 9)  # Ada

Capability = tuple[int, int] | None  # of an NVIDIA GPU; None: of a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Names of the dtypes of matrices, of everything that is computed, and of the KV cache."""

    weights: str
    activations: str
    cache: str


def precision_of(dtype: str, cache: str, capability: Capability, device: str) -> Precision:
    """What `engine.dtype` and `engine.kv_cache_dtype` mean on a device."""
    activations = _activations_of(dtype, capability)
    if dtype == "float8":
        _check_float8("engine.dtype", capability, device)
    weights = dtype if dtype in WEIGHT_FORMATS else activations
    cache = cache_of(cache, activations, capability, device)
    return Precision(weights=weights, activations=activations, cache=cache)


def format_of(weights: str) -> str | None:
    """The format of quantized matrices; None if they are kept as they are computed with."""
    return weights if weights in WEIGHT_FORMATS else None


def cache_of(cache: str, activations: str, capability: Capability, device: str) -> str:
    """The dtype of the KV cache; raises ValueError where a GPU does not have it."""
    if cache == "float8":
        _check_float8("engine.kv_cache_dtype", capability, device)
    return activations if cache == "auto" else cache


def _check_float8(key: str, capability: Capability, device: str) -> None:
    if capability is not None and capability < FLOAT8_CAPABILITY:
        raise ValueError(
            f"{key}=float8 needs a GPU of capability 8.9 or more, {device} has "
            f"{capability[0]}.{capability[1]}; int8 takes the same memory"
        )


def reason_of(dtype: str, capability: Capability) -> str:
    """Why this dtype, in half a sentence."""
    if dtype not in ("auto", *WEIGHT_FORMATS):
        return f"engine.dtype={dtype} asks for it"
    if capability is None:
        return "CPU kernels need it" if dtype in WEIGHT_FORMATS else "a CPU computes exactly in it"
    if capability < BFLOAT16_CAPABILITY:
        return "GPUs before Ampere have no bfloat16; what could overflow is kept in float32"
    return "the checkpoints were trained in it and this GPU is fastest in it"


def _activations_of(dtype: str, capability: Capability) -> str:
    if dtype not in ("auto", *WEIGHT_FORMATS):
        return dtype
    if capability is None:
        return "bfloat16" if dtype in WEIGHT_FORMATS else "float32"
    return "bfloat16" if capability >= BFLOAT16_CAPABILITY else "float16"
