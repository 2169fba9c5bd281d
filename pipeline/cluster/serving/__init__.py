"""Live serving on several GPUs and nodes with Ray Serve.

An engine is a replica with a GPU and a socket server of its own. Fronts send every client to an
engine with a free slot, so that audio never passes through Ray.
"""
