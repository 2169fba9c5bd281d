"""A clip heard by a transcriber, and again where the model stalled: where guards meet an engine."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Protocol

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.stall_retry import (
    RetryAttempt,
    RetryResult,
    retry_stalls,
    run_retries_async,
)
from nightscribe.records import Span, Word
from nightscribe.transcription.clips import Clip, HeardClip


class Submits(Protocol):
    """A transcriber, as far as it is needed here."""

    def submit(self, clip: Clip) -> Future[HeardClip]: ...


async def hear_attentively(
    transcriber: Submits,
    clip: Clip,
    speech: Sequence[Span],
    sample_rate_hz: int,
    config: GuardsConfig,
) -> tuple[HeardClip, RetryResult]:
    """What was heard at first, and the better words after stalled spans were heard again.

    Everything is queued at the one engine, so other clips keep its slots full meanwhile.
    """

    async def hear(attempt: RetryAttempt) -> Sequence[Word]:
        again = replace(
            clip,
            clip_id=f"{clip.clip_id} again from {attempt.start_s:.2f} s",
            samples_N=attempt.samples_N,
            temperature=attempt.temperature,
        )
        return (await asyncio.wrap_future(transcriber.submit(again))).words

    heard = await asyncio.wrap_future(transcriber.submit(clip))
    attempts = retry_stalls(clip.samples_N, sample_rate_hz, heard.words, speech, config)
    return heard, await run_retries_async(attempts, hear)
