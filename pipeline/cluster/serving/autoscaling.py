"""How many engines the sessions need.

Ray Serve counts requests, and sessions are none: they bypass it. Each engine says how much of a
full engine its sessions are. Ray Serve stores this function by value, so it stands alone.
"""

from math import ceil
from typing import Any

LOAD = "load"


def engines_wanted(context: Any) -> tuple[int, dict[str, Any]]:
    """The engines that have room for all sessions; Ray Serve adds bounds and delays."""
    loads = (context.aggregated_metrics or {}).get("load") or {}
    if not loads:
        return context.target_num_replicas, {}
    # A sum of floats may be a little too large.
    return max(1, ceil(sum(loads.values()) - 1e-6)), {}
