"""Looks at a transcript with suspicion: what was missed, repeated, made up or misheard.

Knows words and where somebody speaks. Does not know the model, recordings or files.
"""
