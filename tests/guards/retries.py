"""Runs the retries of stalls without a transcriber."""


def run_retries(attempts, transcribe):
    """Run the generator of `retry_stalls` to its end with a function that transcribes."""
    try:
        attempt = next(attempts)
        while True:
            attempt = attempts.send(transcribe(attempt))
    except StopIteration as finished:
        return finished.value
