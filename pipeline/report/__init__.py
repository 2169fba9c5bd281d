"""Renders the report of a run as one HTML file that needs no network.

Knows what was transcribed and how fast. Does not know where results are stored.
"""
