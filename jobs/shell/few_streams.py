"""The engine for a single recording, or for a few."""

from dataclasses import replace

from nightscribe.engine.config import EngineConfig

FRAMES_PER_PASS = 6  # 8 are hardly faster
# More would only fill the memory: what is small has no more shards.
MAX_SLOTS = 64


def engine_for_one(asked: EngineConfig, has_terms: bool = False) -> EngineConfig:
    """For a single stream, which gains most from several frames per pass.

    Only where that changes no word, and where it was measured: in float32 on a CPU, without terms.
    """
    from nightscribe.model.device import device_of

    is_exact = {asked.dtype, asked.kv_cache_dtype} <= {"auto", "float32"}
    is_on_cpu = device_of(asked.device).type == "cpu"
    is_faster = is_exact and is_on_cpu and not has_terms
    frames_per_pass = FRAMES_PER_PASS if is_faster else 1
    return replace(asked, num_slots=1, frames_per_pass=asked.frames_per_pass or frames_per_pass)


def engine_for(asked: EngineConfig, num_streams: int, has_terms: bool = False) -> EngineConfig:
    """For a few streams: slots that stay empty cost as much on a CPU as those in use."""
    if asked.num_slots is not None:
        return asked
    if num_streams == 1:
        return engine_for_one(asked, has_terms)
    return replace(asked, num_slots=min(num_streams, MAX_SLOTS))
