"""Continuous batching: keeps every slot of a model busy. Knows nothing of speech, files or Ray.

Reading guide:

stream            input and output of one stream
live              streams whose frames are pushed while they run
scheduler         which stream runs in which slot: admit, retire, compact
rounds            the plan of a round: which steps of which streams, in which slots
encoder_prefetch  encodes audio just ahead of the steps that use it
interface         the types exchanged with a model, and the protocols a model satisfies
loop              the engine: plan a round, queue it, read the one before
output_reader     gathers the output of every stream from that of the rounds
speculative       speculative decoding: several frames in a pass, on draft tokens
config            options under `engine.` of a run
"""
