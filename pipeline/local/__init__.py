"""A small run in one process: readers, one transcriber and a committer as threads. No Ray."""
