"""Renders the one word table to every format people read; no format may lose or shift a word.

Knows words and speakers. Does not know where they come from or where the text goes.
"""
