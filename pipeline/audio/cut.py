"""Where a recording is cut into shards: in the quietest place of a window before the limit.

The cuts are a function of the samples and the options alone, whatever the sizes of the blocks that
the samples come in. Every sample is owned by exactly one shard; neighbours hear a little of each
other, and more of it where nobody paused at the cut. What a shard hears begins where a frame of the
whole recording would: a model in whose frames the same sound lies elsewhere errs elsewhere.

N samples, H hops.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from nightscribe.options import option

HOP_S = 0.02
# What every model here hears at a time.
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
    """How many shards a recording will be, its pauses being anywhere."""
    if config.max_s is None or duration_s <= config.max_s:
        return 1
    usual_s = config.max_s - config.overlap_s - config.search_s / 2
    return 1 + ceil((duration_s - config.max_s) / usual_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One shard: what is heard, and the part of it that no other shard answers for."""

    index: int
    start_sample: int
    end_sample: int
    owned_start_sample: int
    owned_end_sample: int
    is_last: bool
    samples_N: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class _Place:
    """A sample to cut at; the shard after it hears from before, the shard before it to behind."""

    sample: int
    heard_from: int
    heard_to: int


def cut(
    blocks: Iterable[NDArray[np.int16]],
    sample_rate_hz: int,
    config: ShardConfig,
    cut_points_s: Sequence[float] = (),
) -> Iterator[Cut]:
    """Shards of one waveform in order; `cut_points_s` are cuts that are asked for besides."""
    tape = _Tape(blocks)
    cutter = _Cutter(sample_rate_hz, config, cut_points_s)
    start, index = _Place(0, 0, 0), 0
    while (end := cutter.next_place(tape, start)) is not None:
        yield _shard(tape, index, start, end)
        tape.forget_before(end.heard_from)
        start, index = end, index + 1
    tape.reaches(inf)
    if tape.end > start.sample:
        yield _shard(tape, index, start, _Place(tape.end, tape.end, tape.end), is_last=True)


class _Tape:
    """The samples from the oldest still needed to the newest that had to be read."""

    def __init__(self, blocks: Iterable[NDArray[np.int16]]) -> None:
        self._blocks = iter(blocks)
        self._start = 0
        self._samples_N = np.zeros(0, np.int16)

    @property
    def end(self) -> int:
        return self._start + len(self._samples_N)

    def reaches(self, sample: float) -> bool:
        """Read on until the tape goes beyond that sample; whether it does."""
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

    def forget_before(self, sample: int) -> None:
        self._samples_N = self._samples_N[sample - self._start :].copy()
        self._start = sample


class _Cutter:
    """Finds the place after which the next shard begins."""

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
        self._wanted = sorted(samples(point_s) for point_s in cut_points_s)

    def next_place(self, tape: _Tape, start: _Place) -> _Place | None:
        """None where the recording ends before it must be cut again."""
        heard_start = start.heard_from
        wanted = next((point for point in self._wanted if point > start.sample), None)
        if wanted is not None and (
            self._max is None or wanted + self._margin <= heard_start + self._max
        ):
            # Neighbours of a short shard hear no more of each other than it holds.
            margin = min(self._margin, wanted - start.sample)
            is_inside = tape.reaches(wanted + margin)
            return self._place(wanted, margin) if is_inside else None
        if self._max is None or not tape.reaches(heard_start + self._max):
            return None
        return self._quietest(tape, heard_start, heard_start + self._max - self._overlap)

    def _quietest(self, tape: _Tape, heard_start: int, latest: int) -> _Place:
        """The middle of the quietest stretch among those that end before `latest`."""
        energies_H = _hop_energies(tape.between(heard_start, latest), self._hop)
        num_searched = min(self._search // self._hop, len(energies_H))
        stretches = _sums(energies_H[-num_searched:], self._pause_hops)
        quietest = np.flatnonzero(stretches == stretches.min())
        first_hop = len(energies_H) - num_searched + int(quietest[len(quietest) // 2])
        sample = (
            latest - (len(energies_H) - first_hop) * self._hop + self._pause_hops * (self._hop // 2)
        )
        is_pause = self._is_pause(int(stretches.min()), energies_H)
        return self._place(sample, self._margin if is_pause else self._overlap)

    def _place(self, sample: int, overlap: int) -> _Place:
        whole_frames = (sample - overlap) // self._frame * self._frame
        return _Place(sample, heard_from=whole_frames, heard_to=sample + overlap)

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


def _shard(tape: _Tape, index: int, start: _Place, end: _Place, is_last: bool = False) -> Cut:
    return Cut(
        index=index,
        start_sample=start.heard_from,
        end_sample=end.heard_to,
        owned_start_sample=start.sample,
        owned_end_sample=end.sample,
        is_last=is_last,
        samples_N=tape.between(start.heard_from, end.heard_to).copy(),
    )
