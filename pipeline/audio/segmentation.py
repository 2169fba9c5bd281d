"""Cuts recordings into shards, each at the quietest place of a window before the longest length.

The cuts depend on the samples and the options alone, not on the block sizes. Every sample is owned
by exactly one shard. Neighbouring shards overlap a little, and more where there is no pause at the
cut. A shard starts at a frame boundary of the whole recording, so that the model sees the same
frames as in one piece: shifted frames change its errors.

N samples, H hops.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from nightscribe.options import option

HOP_S = 0.02
# The frame length of every model.
FRAME_S = 0.08
# A pause is this much quieter than the loud parts around it.
PAUSE_DB = 20.0
LOUD_QUANTILE = 0.9
ALWAYS_QUIET = 33.0**2  # mean square of -60 dB of full scale


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardConfig:
    """How recordings are cut into shards."""

    max_s: float | None = option(60.0, "longest shard; null: never cut a recording", common=True)
    search_s: float = option(20.0, "the cut is the quietest place within this long before max_s")
    pause_s: float = option(0.3, "length of the quiet stretch that is searched for")
    margin_s: float = option(0.2, "audio that neighbours share where the cut lies in a pause")
    overlap_s: float = option(
        2.0, "audio that neighbours share where it does not; longer than a word"
    )

    def __post_init__(self) -> None:
        if self.max_s is not None and self.max_s < self.search_s + 2 * self.overlap_s + FRAME_S:
            raise ValueError(
                f"shard.max_s={self.max_s} leaves no room for search_s={self.search_s} "
                f"and overlap_s={self.overlap_s} on both sides"
            )
        if not HOP_S <= self.pause_s <= self.search_s:
            raise ValueError(
                f"shard.pause_s={self.pause_s} is not between {HOP_S} and search_s={self.search_s}"
            )
        if not 0 <= self.margin_s <= self.overlap_s:
            raise ValueError(
                f"shard.margin_s={self.margin_s} is not between 0 and overlap_s={self.overlap_s}"
            )


def probable_shards(duration_s: float, config: ShardConfig) -> int:
    """The expected number of shards of a recording, if pauses are spread evenly."""
    if config.max_s is None or duration_s <= config.max_s:
        return 1
    usual_s = config.max_s - config.overlap_s - config.search_s / 2
    return 1 + ceil((duration_s - config.max_s) / usual_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSamples:
    """The samples of one shard, and the part of them that this shard alone owns."""

    index: int
    start_sample: int
    end_sample: int
    owned_start_sample: int
    owned_end_sample: int
    is_last: bool
    samples_N: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class _CutPoint:
    """Where ownership changes, and how far the shards on both sides overlap."""

    sample: int
    next_start: int  # of the shard after the cut, at or before `sample`
    previous_end: int  # of the shard before the cut, at or after `sample`


def cut(
    blocks: Iterable[NDArray[np.int16]],
    sample_rate_hz: int,
    config: ShardConfig,
    cut_points_s: Sequence[float] = (),
) -> Iterator[ShardSamples]:
    """The shards of one waveform in order; `cut_points_s` are additional requested cuts."""
    buffer = _SampleBuffer(blocks)
    finder = _CutFinder(sample_rate_hz, config, cut_points_s)
    start, index = _CutPoint(0, 0, 0), 0
    while (end := finder.next_cut(buffer, start)) is not None:
        yield _shard(buffer, index, start, end)
        buffer.drop_before(end.next_start)
        start, index = end, index + 1
    buffer.read_past(inf)
    if buffer.end > start.sample:
        yield _shard(
            buffer, index, start, _CutPoint(buffer.end, buffer.end, buffer.end), is_last=True
        )


class _SampleBuffer:
    """The samples read so far that are still needed."""

    def __init__(self, blocks: Iterable[NDArray[np.int16]]) -> None:
        self._blocks = iter(blocks)
        self._start = 0
        self._samples_N = np.zeros(0, np.int16)

    @property
    def end(self) -> int:
        return self._start + len(self._samples_N)

    def read_past(self, sample: float) -> bool:
        """Read on until the buffer ends after that sample; whether it does."""
        end, read = self.end, [self._samples_N]
        while end <= sample and (block := next(self._blocks, None)) is not None:
            read.append(block)
            end += len(block)
        if len(read) > 1:
            self._samples_N = np.concatenate(read)
        return end > sample

    def between(self, start: int, end: int) -> NDArray[np.int16]:
        assert self._start <= start <= end <= self.end
        return self._samples_N[start - self._start : end - self._start]

    def drop_before(self, sample: int) -> None:
        self._samples_N = self._samples_N[sample - self._start :].copy()
        self._start = sample


class _CutFinder:
    """Finds the cut between a shard and the next one."""

    def __init__(
        self, sample_rate_hz: int, config: ShardConfig, cut_points_s: Sequence[float]
    ) -> None:
        def samples(duration_s: float) -> int:
            return round(duration_s * sample_rate_hz)

        self._max = None if config.max_s is None else samples(config.max_s)
        self._search, self._hop = samples(config.search_s), samples(HOP_S)
        self._frame = samples(FRAME_S)
        self._margin, self._overlap = samples(config.margin_s), samples(config.overlap_s)
        self._pause_hops = samples(config.pause_s) // self._hop
        self._requested = sorted(samples(point_s) for point_s in cut_points_s)

    def next_cut(self, buffer: _SampleBuffer, start: _CutPoint) -> _CutPoint | None:
        """None if the recording ends before the next cut is due."""
        shard_start = start.next_start
        requested = next((point for point in self._requested if point > start.sample), None)
        if requested is not None and (
            self._max is None or requested + self._margin <= shard_start + self._max
        ):
            # A short shard overlaps its neighbours by at most its own length.
            margin = min(self._margin, requested - start.sample)
            is_inside = buffer.read_past(requested + margin)
            return self._cut_point(requested, margin) if is_inside else None
        if self._max is None or not buffer.read_past(shard_start + self._max):
            return None
        return self._quietest(buffer, shard_start, shard_start + self._max - self._overlap)

    def _quietest(self, buffer: _SampleBuffer, shard_start: int, latest: int) -> _CutPoint:
        """The middle of the quietest window among those that end before `latest`."""
        energies_H = _hop_energies(buffer.between(shard_start, latest), self._hop)
        num_searched = min(self._search // self._hop, len(energies_H))
        window_energies = _sums(energies_H[-num_searched:], self._pause_hops)
        quietest = np.flatnonzero(window_energies == window_energies.min())
        first_hop = len(energies_H) - num_searched + int(quietest[len(quietest) // 2])
        sample = (
            latest - (len(energies_H) - first_hop) * self._hop + self._pause_hops * (self._hop // 2)
        )
        is_pause = self._is_pause(int(window_energies.min()), energies_H)
        return self._cut_point(sample, self._margin if is_pause else self._overlap)

    def _cut_point(self, sample: int, overlap: int) -> _CutPoint:
        whole_frames = (sample - overlap) // self._frame * self._frame
        return _CutPoint(sample, next_start=whole_frames, previous_end=sample + overlap)

    def _is_pause(self, energy: int, energies_H: NDArray[np.int64]) -> bool:
        level = energy / self._pause_hops / self._hop
        loud_level = float(np.quantile(energies_H, LOUD_QUANTILE)) / self._hop
        quiet_level = max(loud_level * 10 ** (-PAUSE_DB / 10), ALWAYS_QUIET)
        return level <= quiet_level


def _hop_energies(samples_N: NDArray[np.int16], hop: int) -> NDArray[np.int64]:
    """Sums of squares, exact in integers; hops are counted back from the last sample."""
    whole_N = samples_N[len(samples_N) % hop :].astype(np.int64)
    return np.square(whole_N).reshape(-1, hop).sum(axis=1)


def _sums(values_H: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    sums_H = np.concatenate([np.zeros(1, np.int64), np.cumsum(values_H)])
    return sums_H[width:] - sums_H[:-width]


def _shard(
    buffer: _SampleBuffer, index: int, start: _CutPoint, end: _CutPoint, is_last: bool = False
) -> ShardSamples:
    return ShardSamples(
        index=index,
        start_sample=start.next_start,
        end_sample=end.previous_end,
        owned_start_sample=start.sample,
        owned_end_sample=end.sample,
        is_last=is_last,
        samples_N=buffer.between(start.next_start, end.previous_end).copy(),
    )
