"""The voices of all recordings grouped into persons: one cast for an archive.

Average linkage by mutual nearest neighbours, which gives what merging the most alike pair first
gives, a matrix of a few rows at a time: 100,000 voices take a few hundred megabytes.

V voices, C clusters, D dimensions.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nightscribe.speakers.clustering import Labels, in_order

# The cosine of two speakers of recordings: of two persons it reaches 0.7 and more, of one person
# it is seldom below 0.9 (measured: `ops/benchmarks`).
SAME_PERSON = 0.76
ROWS_AT_ONCE = 256
TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Grouping:
    """A person for each voice, how like its person it is, and how clear the decision was."""

    labels_V: Labels
    likeness_V: NDArray[np.float64]
    nearest_other: float | None  # likeness of the two most alike persons that stay apart


def group(vectors_VD: NDArray[np.float32], same_person: float = SAME_PERSON) -> Grouping:
    """Merge voices that are more alike than `same_person`; equal inputs give equal groups.

    Of several equally alike neighbours the first one counts.
    """
    if not len(vectors_VD):
        return Grouping(np.zeros(0, np.int64), np.zeros(0), None)
    means_CD, sizes_C = vectors_VD.astype(np.float32), np.ones(len(vectors_VD))
    labels_V = np.arange(len(vectors_VD), dtype=np.int64)
    while True:
        nearest_C, alike_C = _nearest(means_CD)
        merged_C = _mutual(nearest_C, alike_C, same_person)
        if merged_C.max(initial=-1) + 1 == len(means_CD):
            break
        means_CD, sizes_C = _means(means_CD, sizes_C, merged_C)
        labels_V = merged_C[labels_V]
    lengths_C = np.maximum(np.linalg.norm(means_CD, axis=1), 1e-9)
    likeness_V = (vectors_VD * means_CD[labels_V]).sum(axis=1) / lengths_C[labels_V]
    closest = float(alike_C.max()) if len(means_CD) > 1 else None
    return Grouping(in_order(labels_V), likeness_V.astype(np.float64), closest)


def persons(
    keys: Sequence[tuple[str, str]], labels_V: Labels, before: Mapping[tuple[str, str], str]
) -> list[str]:
    """An id such as voice-0007 for each voice; groups keep the id that most of them had before."""
    held: dict[int, Counter[str]] = defaultdict(Counter)
    for key, label in zip(keys, labels_V.tolist(), strict=True):
        held[label].update([before[key]] if key in before else [])
    wishes = sorted(
        ((-count, person, label) for label, some in held.items() for person, count in some.items())
    )
    person_of: dict[int, str] = {}
    for _, person, label in wishes:
        if label not in person_of and person not in person_of.values():
            person_of[label] = person
    last = max((int(person.rpartition("-")[2]) for person in before.values()), default=0)
    for label in dict.fromkeys(labels_V.tolist()):
        if label not in person_of:
            last += 1
            person_of[label] = f"voice-{last:04d}"
    return [person_of[label] for label in labels_V.tolist()]


def _nearest(means_CD: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The most alike other cluster of each, and how alike they are on average."""
    nearest_C = np.zeros(len(means_CD), np.int64)
    alike_C = np.full(len(means_CD), -np.inf, np.float32)
    for first in range(0, len(means_CD), ROWS_AT_ONCE):
        rows = np.arange(first, min(first + ROWS_AT_ONCE, len(means_CD)))
        alike_RC = means_CD[rows] @ means_CD.T
        alike_RC[np.arange(len(rows)), rows] = -np.inf
        nearest_C[rows] = (alike_RC >= alike_RC.max(axis=1, keepdims=True) - TIE).argmax(axis=1)
        alike_C[rows] = alike_RC[np.arange(len(rows)), nearest_C[rows]]
    return nearest_C, alike_C


def _mutual(nearest_C: NDArray, alike_C: NDArray, same_person: float) -> Labels:
    """New labels in which each pair that is nearest to each other is one."""
    places = np.arange(len(nearest_C))
    is_pair = (nearest_C[nearest_C] == places) & (alike_C >= same_person) & (nearest_C != places)
    return in_order(np.where(is_pair, np.minimum(places, nearest_C), places))


def _means(
    means_CD: NDArray[np.float32], sizes_C: NDArray, merged_C: Labels
) -> tuple[NDArray[np.float32], NDArray]:
    sizes = np.bincount(merged_C, weights=sizes_C)
    sums = np.zeros((len(sizes), means_CD.shape[1]))
    np.add.at(sums, merged_C, means_CD * sizes_C[:, None])
    return (sums / sizes[:, None]).astype(np.float32), sizes
