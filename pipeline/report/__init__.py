"""One HTML file about a run, to be opened anywhere: no outside request, ever.

Knows what was transcribed and how fast. Does not know where results lie or how they are read.
"""
