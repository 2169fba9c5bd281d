"""Continuous batching: keeps every slot of a model busy. Knows nothing of speech, files or Ray.

Read `stream` (what is heard), `slots` (who sits where, when), `slot_model` (what a model has) and
`engine` (the loop). Then how a round is made, in two ways that say the same: what the model is
asked for, how a round is laid out for it, and the rounds under way.

a step after the other      `step_model`    `ahead`     `stepping`
several frames in a pass    `leap_model`    `leaps`     `leaping`
"""
