"""What users do with a finished run: evaluate, export and report its transcripts.

Knows the tables of a run. Does not know how they were made.
"""
