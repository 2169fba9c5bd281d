"""Who speaks: voices to vectors, vectors to the speakers of a recording, these to one cast.

`voices` listens to sound and needs torch; everything after it works on vectors with numpy alone.
"""
