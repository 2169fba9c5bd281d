"""Texts in, sound out, on one device: what `transcription` is for the other direction."""
