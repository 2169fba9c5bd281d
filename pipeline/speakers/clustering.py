"""Groups vectors of voices by speaker, in memory that does not grow with their number.

Agglomerative clustering with average linkage: the two most alike clusters are merged until none are
alike enough. Vectors have length 1 and their likeness is the cosine; a vector counts by the seconds
of speech behind it. Many vectors are first merged in blocks, as far as they are surely the same.

V vectors, C clusters, D dimensions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]

# A similarity matrix of this many rows takes 4 MB.
MAX_ROWS = 1024
# Inside a block, clusters are merged only while they are this much more alike than at the end.
SURELY = 0.1
REFINEMENTS = 4
NEVER = -np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringLimits:
    """When to stop merging."""

    same_voice: float  # clusters less alike than this stay apart
    min_clusters: int = 1
    max_clusters: int | None = None


def cluster(vectors_VD: Vectors, seconds_V: NDArray, limits: ClusteringLimits) -> Labels:
    """A label from 0 for each vector, in the order in which the clusters first occur."""
    if not len(vectors_VD):
        return np.zeros(0, np.int64)
    labels_V, centres_CD, seconds_C = _compressed(vectors_VD, seconds_V, limits.same_voice)
    merged_C = _agglomerated(centres_CD, seconds_C, limits)
    return in_order(merged_C[labels_V])


def refined(vectors_VD: Vectors, seconds_V: NDArray, labels_V: Labels) -> Labels:
    """Move each vector to the cluster whose centre is most like it, a few times."""
    for _ in range(REFINEMENTS):
        centres_CD = centres(vectors_VD, seconds_V, labels_V)
        nearest_V = (vectors_VD @ centres_CD.T).argmax(axis=1)
        if len(np.unique(nearest_V)) < len(centres_CD) or (nearest_V == labels_V).all():
            break
        labels_V = nearest_V
    return in_order(labels_V)


def centres(vectors_VD: Vectors, seconds_V: NDArray, labels_V: Labels) -> Vectors:
    """The mean of each cluster, of length 1."""
    return _of_length_1(_means(vectors_VD, seconds_V, labels_V)[0])


def in_order(labels_V: Labels) -> Labels:
    """The same clusters, numbered in the order in which they first occur."""
    _, first_C, inverse_V = np.unique(labels_V, return_index=True, return_inverse=True)
    rank_C = np.empty(len(first_C), np.int64)
    rank_C[np.argsort(first_C)] = np.arange(len(first_C))
    return rank_C[inverse_V]


def _compressed(
    vectors_VD: Vectors, seconds_V: NDArray, same_voice: float
) -> tuple[Labels, NDArray, NDArray]:
    """At most MAX_ROWS clusters, their means and seconds, and the cluster of each vector."""
    labels_V = np.arange(len(vectors_VD), dtype=np.int64)
    means_CD, seconds_C = vectors_VD.astype(np.float64), np.maximum(seconds_V, 1e-3)
    surely = min(same_voice + SURELY, 1.0)
    while len(means_CD) > MAX_ROWS:
        merged_C = _merged_in_blocks(means_CD, seconds_C, surely)
        if merged_C.max() + 1 > 0.9 * len(means_CD):
            surely -= SURELY / 2  # so many different voices: blocks have to merge more
        means_CD, seconds_C = _means(means_CD, seconds_C, merged_C)
        labels_V = merged_C[labels_V]
    return labels_V, means_CD, seconds_C


def _merged_in_blocks(means_CD: NDArray, seconds_C: NDArray, same_voice: float) -> Labels:
    limits = ClusteringLimits(same_voice=same_voice)
    labels, num_before = [], 0
    for first in range(0, len(means_CD), MAX_ROWS):
        block = slice(first, first + MAX_ROWS)
        merged = in_order(_agglomerated(means_CD[block], seconds_C[block], limits))
        labels.append(merged + num_before)
        num_before += merged.max() + 1
    return np.concatenate(labels)


def _means(vectors_VD: NDArray, seconds_V: NDArray, labels_V: Labels) -> tuple[NDArray, NDArray]:
    """The mean of each cluster, shorter the more its members differ, and its seconds."""
    seconds_C = np.bincount(labels_V, weights=np.maximum(seconds_V, 1e-3))
    sums_CD = np.zeros((len(seconds_C), vectors_VD.shape[1]))
    np.add.at(sums_CD, labels_V, vectors_VD * np.maximum(seconds_V, 1e-3)[:, None])
    return sums_CD / seconds_C[:, None], seconds_C


def _of_length_1(vectors_CD: NDArray) -> Vectors:
    lengths_C1 = np.linalg.norm(vectors_CD, axis=1, keepdims=True)
    return (vectors_CD / np.maximum(lengths_C1, 1e-9)).astype(np.float32)


def _agglomerated(means_CD: NDArray, seconds_C: NDArray, limits: ClusteringLimits) -> Labels:
    """The label of each cluster after merging.

    The product of two means is the average likeness of their members, which is average linkage.
    """
    alike_CC = means_CD @ means_CD.T
    np.fill_diagonal(alike_CC, NEVER)
    seconds_C = seconds_C.astype(np.float64).copy()
    labels_C = np.arange(len(means_CD))
    best_C = alike_CC.argmax(axis=1)
    for num_clusters in range(len(means_CD), limits.min_clusters, -1):
        most_C = alike_CC[np.arange(len(best_C)), best_C]
        one = int(most_C.argmax())
        has_too_many = limits.max_clusters is not None and num_clusters > limits.max_clusters
        if most_C[one] < limits.same_voice and not has_too_many:
            break
        other = int(best_C[one])
        _merge(alike_CC, seconds_C, best_C, *sorted((one, other)))
        labels_C[labels_C == max(one, other)] = min(one, other)
    return labels_C


def _merge(alike_CC: NDArray, seconds_C: NDArray, best_C: NDArray, kept: int, gone: int) -> None:
    """Average the rows of two clusters by their seconds, and close the second one."""
    share = seconds_C[kept] / (seconds_C[kept] + seconds_C[gone])
    row_C = share * alike_CC[kept] + (1 - share) * alike_CC[gone]
    row_C[[kept, gone]] = NEVER
    seconds_C[kept] += seconds_C[gone]
    alike_CC[kept], alike_CC[:, kept] = row_C, row_C
    alike_CC[gone], alike_CC[:, gone] = NEVER, NEVER
    stale = np.flatnonzero((best_C == kept) | (best_C == gone))
    best_C[stale] = alike_CC[stale].argmax(axis=1)
    best_C[kept] = row_C.argmax()
    better = row_C > alike_CC[np.arange(len(best_C)), best_C]
    best_C[better] = kept
