"""From the sound of a shard to its voices: spans of local speakers, and a vector for each.

Windows of ten seconds are segmented, one after the other, with as much overlap as it takes to end
where the shard ends. A window owns the frames that lie nearer to its middle than to that of its
neighbours. Of each local speaker in it
only the frames in which it speaks alone are embedded, as far as there are enough of them. The
result depends on the samples of the shard alone, not on what is embedded beside it.

N samples, W windows, T frames of segmentation, K local speakers, F mel bins, M feature frames.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nightscribe.records import Span, Voice
from nightscribe.speakers.config import SpeakersConfig
from nightscribe.speakers.features import FRAME_STEP_S, at_16_khz, frames_of, log_mel_of
from nightscribe.speakers.second_hearing import runs, with_unheard
from nightscribe.speakers.segmentation_network import (
    FIRST_FRAME_S,
    FRAME_S,
    SAMPLE_RATE_HZ,
    WINDOW_S,
)
from nightscribe.speakers.weights import SpeakerNetworks, load_networks

STEP_S = 10.0  # at most
WINDOWS_PER_BATCH = 16
# Of the middle of a piece: more makes the clusters hardly better, and costs most of the time.
MAX_EMBEDDED_S = 1.5
# Runs are halved until they are not longer, and shorter ones are taken together.
MAX_PIECE_S = 2.5
MIN_PIECE_S = 0.8
MIN_EMBEDDED_S = 0.4
EMBEDDED_STEP_S = 0.25  # lengths are rounded down to this, so that many are equal
MIN_SPAN_S = 0.05
TIME_DECIMALS = 3


@dataclass(frozen=True, slots=True)
class _Window:
    """Ten seconds of the shard, and the part of them that this window owns."""

    start: int  # the first sample
    owned: Span  # in seconds of the shard


@dataclass(frozen=True, slots=True)
class _LocalSpeaker:
    """A piece of what one local speaker says in the part that its window owns."""

    spans: tuple[Span, ...]
    clean_s: float
    features_MF: Tensor


def load_listener(
    config: SpeakersConfig | None, device: torch.device, sample_rate_hz: int
) -> Callable[[NDArray[np.int16]], tuple[Voice, ...]] | None:
    """A function from the samples of a shard to its voices; None where speakers are off."""
    if config is None or not config.is_on:
        return None
    networks = load_networks(config.checkpoint, device)
    return partial(voices_of, sample_rate_hz=sample_rate_hz, networks=networks)


def voices_of(
    samples_N: NDArray[np.int16], sample_rate_hz: int, networks: SpeakerNetworks
) -> tuple[Voice, ...]:
    """The voices of one shard, by start, in seconds of the shard."""
    with torch.inference_mode():
        sound_N = at_16_khz(torch.from_numpy(samples_N).to(networks.device), sample_rate_hz)
        local = list(_local_speakers(sound_N, networks))
        vectors_VD = vectors_of([one.features_MF for one in local], networks)
    voices = [
        Voice(one.spans, one.clean_s, vector_D.astype(np.float16).tobytes())
        for one, vector_D in zip(local, vectors_VD, strict=True)
    ]
    return tuple(sorted(voices, key=lambda voice: voice.spans))


def _local_speakers(sound_N: Tensor, networks: SpeakerNetworks) -> Iterator[_LocalSpeaker]:
    windows = _windows(len(sound_N))
    num_samples = round(WINDOW_S * SAMPLE_RATE_HZ)
    for first in range(0, len(windows), WINDOWS_PER_BATCH):
        some = windows[first : first + WINDOWS_PER_BATCH]
        sound_WN = torch.stack([_padded(sound_N, one.start, num_samples) for one in some])
        active_WTK = with_unheard(sound_WN, networks.segmentation.active(sound_WN).cpu().numpy())
        for window, sound_n, active_TK in zip(some, sound_WN, active_WTK, strict=True):
            yield from _speakers_of(window, sound_n, active_TK)


def _windows(num_samples: int) -> list[_Window]:
    """Evenly spaced, from the first sample to the last."""
    window, step = round(WINDOW_S * SAMPLE_RATE_HZ), round(STEP_S * SAMPLE_RATE_HZ)
    rest = max(num_samples - window, 0)
    num_steps = -(-rest // step)
    starts = [round(number * rest / max(num_steps, 1)) for number in range(num_steps + 1)]
    middles_s = [(start + window / 2) / SAMPLE_RATE_HZ for start in starts]
    edges_s = [0.0, *((a + b) / 2 for a, b in pairwise(middles_s)), num_samples / SAMPLE_RATE_HZ]
    return [
        _Window(start, Span(*owned)) for start, owned in zip(starts, pairwise(edges_s), strict=True)
    ]


def _padded(sound_N: Tensor, start: int, num_samples: int) -> Tensor:
    piece_n = sound_N[start : start + num_samples]
    return F.pad(piece_n, (0, num_samples - len(piece_n)))


def _speakers_of(
    window: _Window, sound_N: Tensor, active_TK: NDArray[np.bool_]
) -> Iterator[_LocalSpeaker]:
    start_s = window.start / SAMPLE_RATE_HZ
    middles_T = start_s + FIRST_FRAME_S + FRAME_S * np.arange(len(active_TK))
    is_owned_T = (middles_T >= window.owned.start_s) & (middles_T < window.owned.end_s)
    is_alone_T = active_TK.sum(axis=1) == 1
    for is_active_T in active_TK.T:
        for is_piece_T in _pieces(is_active_T & is_owned_T, is_alone_T):
            spans = _spans(is_piece_T, middles_T, window.owned)
            if not spans:
                continue
            chosen_T = _embedded_frames(is_piece_T, is_active_T, is_alone_T)
            clean_s = round(float((is_piece_T & is_alone_T).sum() * FRAME_S), TIME_DECIMALS)
            yield _LocalSpeaker(spans, clean_s, _features(sound_N, chosen_T))


def _pieces(
    is_active_T: NDArray[np.bool_], is_alone_T: NDArray[np.bool_]
) -> Iterator[NDArray[np.bool_]]:
    """The frames of one speaker, a run at a time where it is long, and short runs together.

    The segmentation takes two speakers of a window for one more often than it takes both for one
    within a run. Long runs are halved: there may be a change in them that it did not notice. Short
    runs are taken together only within each half of the window, for the same reason.
    """
    rest_T = np.zeros(len(is_active_T), bool)
    for first, end in runs(is_active_T):
        num_pieces = max(ceil((end - first) * FRAME_S / MAX_PIECE_S), 1)
        edges = np.linspace(first, end, num_pieces + 1).round().astype(int).tolist()
        for start, stop in pairwise(edges):
            piece_T = np.zeros(len(is_active_T), bool)
            piece_T[start:stop] = True
            if (piece_T & is_alone_T).sum() * FRAME_S >= MIN_PIECE_S:
                yield piece_T
            else:
                rest_T |= piece_T
    is_early_T = np.arange(len(rest_T)) < len(rest_T) / 2
    for half_T in (rest_T & is_early_T, rest_T & ~is_early_T):
        if half_T.any():
            yield half_T


def _spans(is_active_T: NDArray[np.bool_], middles_T: NDArray, owned: Span) -> tuple[Span, ...]:
    spans = []
    for first, end in runs(is_active_T):
        start_s = max(middles_T[first] - FRAME_S / 2, owned.start_s)
        end_s = min(middles_T[end - 1] + FRAME_S / 2, owned.end_s)
        if end_s - start_s >= MIN_SPAN_S:
            spans.append(
                Span(round(float(start_s), TIME_DECIMALS), round(float(end_s), TIME_DECIMALS))
            )
    return tuple(spans)


def _embedded_frames(
    is_piece_T: NDArray[np.bool_], is_active_T: NDArray[np.bool_], is_alone_T: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Those of the piece in which nobody else speaks; if these are few, of the whole window."""
    for frames_T in (is_piece_T & is_alone_T, is_active_T & is_alone_T):
        if frames_T.sum() * FRAME_S >= MIN_EMBEDDED_S:
            return frames_T
    return is_active_T


def _features(sound_N: Tensor, chosen_T: NDArray[np.bool_]) -> Tensor:
    """The features inside the chosen frames, joined, less their mean over time."""
    frames_MN = frames_of(sound_N)
    times_M = (np.arange(len(frames_MN)) + 1.25) * FRAME_STEP_S  # the middles, of 25 ms each
    places_M = np.rint((times_M - FIRST_FRAME_S) / FRAME_S).astype(int).clip(0, len(chosen_T) - 1)
    chosen_M = np.flatnonzero(chosen_T[places_M])
    most = round(MAX_EMBEDDED_S / FRAME_STEP_S)
    skipped = max(len(chosen_M) - most, 0) // 2
    chosen_M = chosen_M[skipped : skipped + most]
    step = round(EMBEDDED_STEP_S / FRAME_STEP_S)
    if len(chosen_M) > step:
        chosen_M = chosen_M[: len(chosen_M) // step * step]
    kept_MF = log_mel_of(frames_MN[torch.from_numpy(chosen_M).to(frames_MN.device)])
    return kept_MF - kept_MF.mean(dim=0, keepdim=True)


def vectors_of(features: list[Tensor], networks: SpeakerNetworks) -> NDArray[np.float32]:
    """One vector of length 1 for each; those of equal length are embedded together."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, features_MF in enumerate(features):
        places[len(features_MF)].append(place)
    vectors_VD = np.zeros((len(features), networks.embedding.num_dims), np.float32)
    for some in places.values():
        for first in range(0, len(some), WINDOWS_PER_BATCH):
            batch = some[first : first + WINDOWS_PER_BATCH]
            embedded = networks.embedding(torch.stack([features[place] for place in batch]))
            vectors_VD[batch] = F.normalize(embedded).cpu().numpy()
    return vectors_VD
