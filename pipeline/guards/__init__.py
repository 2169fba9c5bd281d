"""Checks transcripts: stalls, repeated phrases, hallucinated words, the wrong language.

Knows words and where speech is. Does not know the model, recordings or files.
"""
