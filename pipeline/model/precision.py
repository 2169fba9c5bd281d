"""Which numbers a device computes and remembers in, from what the user wrote: names, no torch."""

from dataclasses import dataclass

WEIGHT_BITS = {"int8": 8, "int4": 4}  # of the matrices; everything else is as with 16 bits
BFLOAT16_CAPABILITY = (8, 0)  # Ampere
FLOAT8_CAPABILITY = (8, 9)  # Ada

Capability = tuple[int, int] | None  # of an NVIDIA GPU; None: of a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Names of the numbers of matrices, of everything that is computed, of keys and values."""

    weights: str
    activations: str
    cache: str


def numbers_of(dtype: str, cache: str, capability: Capability, device: str) -> Numbers:
    """What `engine.dtype` and `engine.kv_cache_dtype` come to on a device."""
    activations = _activations_of(dtype, capability)
    weights = dtype if dtype in WEIGHT_BITS else activations
    kept = cache_of(cache, activations, capability, device)
    return Numbers(weights=weights, activations=activations, cache=kept)


def cache_of(cache: str, activations: str, capability: Capability, device: str) -> str:
    """The numbers of keys and values; raises ValueError where a GPU has none of these."""
    if cache == "float8" and capability is not None and capability < FLOAT8_CAPABILITY:
        raise ValueError(
            f"engine.kv_cache_dtype=float8 needs a GPU of capability 8.9 or more, {device} has "
            f"{capability[0]}.{capability[1]}; int8 takes the same memory"
        )
    return activations if cache == "auto" else cache


def reason_of(dtype: str, capability: Capability) -> str:
    """Why these numbers, in half a sentence."""
    if dtype not in ("auto", *WEIGHT_BITS):
        return f"engine.dtype={dtype} asks for it"
    if capability is None:
        return "its kernels on a CPU need it" if dtype in WEIGHT_BITS else "a CPU is exact in it"
    if capability < BFLOAT16_CAPABILITY:
        return "GPUs before Ampere know no bfloat16; what must not overflow is kept in float32"
    return "it is what the checkpoints were trained in and this GPU computes fastest"


def _activations_of(dtype: str, capability: Capability) -> str:
    if dtype not in ("auto", *WEIGHT_BITS):
        return dtype
    if capability is None:
        return "bfloat16" if dtype in WEIGHT_BITS else "float32"
    return "bfloat16" if capability >= BFLOAT16_CAPABILITY else "float16"
