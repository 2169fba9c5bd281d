"""Values, not code: YAML groups that Hydra composes."""
