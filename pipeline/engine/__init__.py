"""Continuous batching: keeps every slot of a model busy. Knows nothing of speech, files or Ray."""
