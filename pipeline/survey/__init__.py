"""Surveys an archive before a run: what it holds, and what transcribing it will cost.

Knows headers of files and speeds of GPUs. Does not know where files are stored.
"""
