"""Scores transcripts against references: WER, CER, BLEU and the errors of word times.

Knows texts and words. Does not know recordings, files or the model.
"""
