"""A run, whoever executes it: what it is asked, its attempts, the work on its shards. No Ray."""
