"""What an archive holds and what transcribing it will take, before anything is spent.

Knows headers of files and figures of machines. Does not know where files lie.
"""
