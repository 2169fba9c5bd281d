"""Whole files on the server: decoded, cut and stitched as an archive is, on slots of the engine."""

# N samples, T steps, H VAD heads

import asyncio
import tempfile
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nightscribe.audio.decode import AudioDecoder, DecodeConfig
from nightscribe.audio.segmentation import ShardConfig, ShardSamples, cut
from nightscribe.audio.waveform import one_channel
from nightscribe.engine.stream import StreamOutput
from nightscribe.errors import NightscribeError
from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.speech_activity import speech_spans
from nightscribe.guards.stall_retry import retry_stalls
from nightscribe.records import Recording, Shard, ShardTranscript, Transcript
from nightscribe.serving.config import ServingConfig
from nightscribe.serving.engine_client import EngineClient, EngineError, Steps
from nightscribe.stitching import stitch
from nightscribe.transcription.clips import Clip, ClipTranscript
from nightscribe.transcription.requests import Request, Retries
from nightscribe.transcription.transcriber import ClipAdapter

WHOLE = ShardConfig(max_s=None)
SHARDS_AHEAD = 2  # decoded and not begun


class FileError(NightscribeError, ValueError):
    """A file that cannot be transcribed."""


class TooLargeError(FileError):
    """A file beyond a limit of the server."""


class BusyError(NightscribeError):
    """As many files wait as may."""

    fault = "environment"


@dataclass(slots=True, eq=False)
class Files:
    """Transcribes files on the engine's slots for files."""

    config: ServingConfig
    decode: DecodeConfig
    guards: GuardsConfig
    engine: EngineClient
    adapter: ClipAdapter
    model: str = ""
    model_revision: str = ""
    _num_open: int = 0

    @property
    def is_busy(self) -> bool:
        return self._num_open > 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Room for one more file; raises `BusyError` if there is none."""
        if self._num_open >= self.config.max_files:
            raise BusyError(f"{self._num_open} files are being transcribed or wait; try again")
        self._num_open += 1
        try:
            yield
        finally:
            self._num_open -= 1

    @asynccontextmanager
    async def received(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[Path]:
        """A temporary file with this content; raises `TooLargeError` beyond the limit."""
        with tempfile.NamedTemporaryFile(prefix="nightscribe-") as spooled:
            size_bytes = 0
            async for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > self.config.max_file_bytes:
                    limit = self.config.max_file_bytes
                    raise TooLargeError(f"the file has more than {limit} bytes")
                spooled.write(chunk)
            spooled.flush()
            yield Path(spooled.name)

    async def transcribe(self, path: Path, shard: ShardConfig) -> Transcript:
        """The transcript of a whole file."""
        shards = [one async for one in self.shards(path, shard)]
        return stitch(shards)

    async def shards(self, path: Path, config: ShardConfig) -> AsyncIterator[ShardTranscript]:
        """The transcripts of its shards in order; several are transcribed at once."""
        recording = Recording(uri="file", size_bytes=path.stat().st_size, version="")
        waiting: deque[asyncio.Task[ShardTranscript]] = deque()
        ahead = self.engine.num_file_slots + SHARDS_AHEAD
        try:
            async for piece in self._pieces(path, config):
                waiting.append(asyncio.create_task(self._transcribe(piece, recording)))
                if len(waiting) >= ahead:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _pieces(self, path: Path, config: ShardConfig) -> AsyncIterator[ShardSamples]:
        """Decoded in a thread, a shard at a time."""
        limits = replace(self.decode, max_recording_s=self.config.max_file_s)
        with await asyncio.to_thread(
            AudioDecoder, path, limits, self.adapter.sample_rate_hz
        ) as decoder:
            rate_hz, num_pieces = self.adapter.sample_rate_hz, 0
            pieces = cut(one_channel(decoder, None, rate_hz), rate_hz, config)
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                num_pieces += 1
                yield piece
            outcome = await asyncio.to_thread(lambda: decoder.outcome)
            if outcome.reason == "too_long":
                raise TooLargeError(f"the file lasts more than {self.config.max_file_s:g} s")
            if not num_pieces:
                detail = outcome.detail or "no reason is known"
                raise FileError(f"the file cannot be decoded: {detail} ({outcome.reason})")

    async def _transcribe(self, piece: ShardSamples, recording: Recording) -> ShardTranscript:
        rate_hz = self.adapter.sample_rate_hz
        speech = await asyncio.to_thread(speech_spans, piece.samples_N, rate_hz, self.guards)
        found = await self._final(Clip(f"shard {piece.index}", piece.samples_N, speech=speech))
        return ShardTranscript(
            shard=_shard(piece, recording, rate_hz),
            words=found.words,
            model=self.model,
            model_revision=self.model_revision,
            speech=found.speech,
            num_redecoded=found.num_redecoded,
        )

    async def _final(self, clip: Clip) -> ClipTranscript:
        """The transcript after every pass; stalls are retried as everywhere."""
        request = Request(clip)
        following: Clip | ClipTranscript = clip
        while isinstance(following, Clip):
            output = await self._pass(following)
            following = request.advance(self._read(following, output), self._retries)
        return following

    def _retries(self, first_pass: ClipTranscript, clip: Clip) -> Retries:
        rate_hz, speech = self.adapter.sample_rate_hz, first_pass.speech
        return retry_stalls(clip.samples_N, rate_hz, first_pass.words, speech, self.guards)

    def _read(self, clip: Clip, output: StreamOutput) -> ClipTranscript:
        return ClipTranscript(
            clip_id=clip.clip_id,
            words=tuple(self.adapter.read_words(clip, output)),
            tokens_T=output.tokens_T,
            confidences_T=output.confidences_T,
            vad_TH=output.vad_TH,
            speech=clip.speech or (),
        )

    async def _pass(self, clip: Clip) -> StreamOutput:
        """One pass of the engine over a clip, prefix and flush included."""
        stream = self.adapter.stream(clip.clip_id, clip)
        collected = _Collected()
        settings = {
            "forced_tokens": stream.forced_tokens,
            "prompt_tokens": stream.prompt_tokens,
            "temperature": stream.temperature,
            "seed": stream.seed,
        }
        channel = await self.engine.open_file(settings, collected.add, collected.fail)
        try:
            await channel.write_all(stream.whole_samples(self.adapter.frame_samples))
            channel.close()
            tokens, confidences, vad_TH = await collected.all()
        finally:
            channel.release()
        return StreamOutput(stream, tokens, confidences, vad_TH)


@dataclass(slots=True, eq=False)
class _Collected:
    """The output of one pass."""

    pieces: list[Steps] = field(default_factory=list)
    ended: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def add(self, steps: Steps) -> None:
        self.pieces.append(steps)
        if steps.is_last and not self.ended.done():
            self.ended.set_result(None)

    def fail(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(EngineError(f"the engine has ended: {reason}"))

    async def all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        await self.ended
        tokens = [token for piece in self.pieces for token in piece.tokens]
        confidences = [one for piece in self.pieces for one in piece.confidences]
        vad_TH = np.concatenate([piece.vad_TH for piece in self.pieces])
        return np.array(tokens, np.int32), np.array(confidences, np.float32), vad_TH


def _shard(piece: ShardSamples, recording: Recording, rate_hz: int) -> Shard:
    return Shard(
        recording=recording,
        index=piece.index,
        sample_rate_hz=rate_hz,
        start_sample=piece.start_sample,
        end_sample=piece.end_sample,
        owned_start_sample=piece.owned_start_sample,
        owned_end_sample=piece.owned_end_sample,
        is_last=piece.is_last,
    )
