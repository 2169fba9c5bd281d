"""What people do with a finished run: find, render, score and report its transcripts.

Knows the tables of a run. Does not know how they came about.
"""
