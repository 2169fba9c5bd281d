"""Files to shards with audio: fetches, decodes and cuts in one pass; errors become failures."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nightscribe.audio.decode import AudioDecoder, DecodeConfig
from nightscribe.audio.decode_outcome import DecodeOutcome
from nightscribe.audio.segmentation import ShardConfig, ShardSamples, cut
from nightscribe.audio.waveform import Excerpt, one_channel
from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.speech_activity import speech_spans
from nightscribe.options import check_options, group, option
from nightscribe.records import Failure, Recording, Shard
from nightscribe.runs.shards import Cut, CutShard
from nightscribe.storage.errors import StorageError
from nightscribe.storage.locations import S3Config
from nightscribe.storage.scratch import ScratchConfig, fetched, has_changed

CHANNELS = ("mix", "split")
# Headers and manifests may be wrong by this much without any audio missing.
TOLERANCE_S, TOLERANCE_SHARE = 0.5, 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """What is read of each file."""

    channels: str = option(
        "mix",
        "mix: one transcript of all channels; split: one of each; a manifest overrides this",
        choices=CHANNELS,
        common=True,
    )
    scratch: ScratchConfig = group(ScratchConfig, "local space for fetched recordings")
    decode: DecodeConfig = group(DecodeConfig, "ffmpeg limits")

    def __post_init__(self) -> None:
        check_options(self, "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioReader:
    """A function of a recording, which can be sent to any machine that has ffmpeg."""

    sample_rate_hz: int
    source: SourceConfig
    shard: ShardConfig
    guards: GuardsConfig
    s3: S3Config

    def __call__(self, recording: Recording) -> Iterator[Cut]:
        """The shards in order; a file that cannot be fetched or decoded is one failure."""
        try:
            with fetched(recording, self.s3, self.source.scratch) as path:
                yield from self._read(path, recording)
        except StorageError as error:
            yield Failure(
                recording=recording, stage="fetch", reason=error.reason, detail=str(error)
            )

    def _read(self, path: Path, recording: Recording) -> Iterator[Cut]:
        with self._decoder(path) as decoder:
            num_channels = decoder.num_channels
            if not num_channels:
                yield _not_decoded(recording, decoder.outcome)
                return
            if recording.channel is not None and recording.channel >= num_channels:
                yield _no_channel(recording, num_channels)
                return
            if not self._is_split(recording, num_channels):
                yield from self._shards(decoder, recording)
                return
        # One pass for each channel: a pass is cheap and holds no whole recording.
        for channel in recording.split(num_channels):
            with self._decoder(path) as decoder:
                yield from self._shards(decoder, channel)

    def _is_split(self, recording: Recording, num_channels: int) -> bool:
        wants_all = self.source.channels == "split" and recording.channel is None
        return wants_all and num_channels > 1

    def _shards(self, decoder: AudioDecoder, recording: Recording) -> Iterator[Cut]:
        span = Excerpt(recording.start_s, recording.end_s, self.sample_rate_hz)
        blocks_N = one_channel(decoder, recording.channel, self.sample_rate_hz)
        cuts_s = [cut_s - recording.start_s for cut_s in recording.cuts_s]
        num_shards = 0
        for piece in cut(span.inside(blocks_N), self.sample_rate_hz, self.shard, cuts_s):
            # With the last shard the decoder has ended, and its outcome is final.
            damage = self._damage(decoder, span, recording) if piece.is_last else None
            yield self._cut_shard(piece, recording, damage)
            num_shards += 1
        if not num_shards:
            yield _not_decoded(recording, decoder.outcome)

    def _damage(self, decoder: AudioDecoder, span: Excerpt, recording: Recording) -> str | None:
        if has_changed(recording, self.s3):
            return "changed: the file was modified while it was read"
        return _damage(decoder, span, recording)

    def _cut_shard(self, piece: ShardSamples, recording: Recording, damage: str | None) -> CutShard:
        shard = Shard(
            recording=recording,
            index=piece.index,
            sample_rate_hz=self.sample_rate_hz,
            start_sample=piece.start_sample,
            end_sample=piece.end_sample,
            owned_start_sample=piece.owned_start_sample,
            owned_end_sample=piece.owned_end_sample,
            is_last=piece.is_last,
            damage=damage,
        )
        speech = speech_spans(piece.samples_N, self.sample_rate_hz, self.guards)
        return CutShard(shard, piece.samples_N, speech)

    def _decoder(self, path: Path) -> AudioDecoder:
        return AudioDecoder(path, self.source.decode, self.sample_rate_hz)


def _damage(decoder: AudioDecoder, span: Excerpt, recording: Recording) -> str | None:
    """Why the recording is incomplete, by the decoder or by the duration in the manifest."""
    if not span.ends_early:
        outcome = decoder.outcome
        if outcome.status != "ok":
            return f"{outcome.reason}: {outcome.detail or 'the decoder gives no reason'}"
    expected_s = recording.expected_s
    if expected_s is None:
        return None
    missing_s = expected_s - span.duration_s
    if missing_s <= max(TOLERANCE_S, TOLERANCE_SHARE * expected_s):
        return None
    return f"short: {span.duration_s:.2f} s of the {expected_s:.2f} s in the manifest"


def _not_decoded(recording: Recording, outcome: DecodeOutcome) -> Failure:
    return Failure(
        recording=recording,
        stage="decode",
        reason=outcome.reason or "empty",
        detail=outcome.detail or "no sample of this recording could be decoded",
    )


def _no_channel(recording: Recording, num_channels: int) -> Failure:
    return Failure(
        recording=recording,
        stage="decode",
        reason="no_channel",
        detail=f"there is no channel {recording.channel}, only {num_channels} of them",
    )
