"""Measures how fast a machine transcribes, for `nightscribe bench` and `nightscribe plan`."""
