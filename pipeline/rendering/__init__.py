"""Renders the words of a transcript as text, subtitles, JSON and tables; no format loses a word.

Knows words and speakers. Does not know where they come from or where the text goes.
"""
