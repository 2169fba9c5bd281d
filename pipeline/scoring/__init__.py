"""Compares what was heard with what was said: word and character errors, BLEU, word times.

Knows texts and words. Does not know recordings, files or the model.
"""
