"""Named groups of values, in YAML, that Hydra composes. Other defaults are in the dataclasses."""
