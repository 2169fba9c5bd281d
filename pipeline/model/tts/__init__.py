"""Kyutai's text-to-speech models: text in, codes of Mimi out, one frame of 80 ms per step.

At each step the backbone predicts whether the next word begins now, the text machine decides which
text tokens are fed, and the depth transformer samples the frame's codes one codebook at a time. The
audio is a fixed number of steps behind the text.
"""
