"""Groups vectors of voices by speaker, in memory that does not grow with their number.

Vectors have length 1, their likeness is the cosine, and a vector counts by the seconds of speech
behind it. Many vectors are first merged in blocks, as far as they are surely the same (average
linkage); what is left is divided by spectral clustering, which also says how many speakers there
are. A few vectors are divided by average linkage alone.

V vectors, C clusters, D dimensions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]

# A similarity matrix of this many rows takes 4 MB.
MAX_ROWS = 1024
# Inside a block, clusters are merged while they are so much alike.
SURELY = 0.6
# With fewer vectors than this a spectrum says little.
MIN_SPECTRAL = 24
NEIGHBOUR_SHARE, MIN_NEIGHBOURS = 0.03, 6
MAX_CLUSTERS = 20  # that a spectrum is searched for, where no limit is given
ONE_VOICE = 0.85  # the cosine of two centres
K_MEANS_STEPS = 20
REFINEMENTS = 4
WEIGHED_S = (0.3, 2.5)  # fewer and more seconds than these weigh like these
NEVER = -np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringLimits:
    """When to stop merging."""

    same_voice: float = 0.45  # clusters less alike than this stay apart
    min_clusters: int = 1
    max_clusters: int | None = None


def cluster(vectors_VD: Vectors, seconds_V: NDArray, limits: ClusteringLimits) -> Labels:
    """A label from 0 for each vector, in the order in which the clusters first occur."""
    if not len(vectors_VD):
        return np.zeros(0, np.int64)
    labels_V, means_CD, seconds_C = _compressed(vectors_VD, seconds_V)
    if len(means_CD) < MIN_SPECTRAL:
        return in_order(agglomerated(means_CD, seconds_C, limits)[labels_V])
    found_C = _by_spectrum(_of_length_1(means_CD), limits)
    centres_CD = centres(means_CD, seconds_C, found_C)
    merged = _merged_while_alike(centres_CD, np.bincount(found_C, weights=seconds_C), limits)
    return in_order(merged[found_C][labels_V])


def refined(
    vectors_VD: Vectors,
    seconds_V: NDArray,
    labels_C: Labels,
    is_clear_V: NDArray[np.bool_],
    shares_V: NDArray[np.float64],
) -> Labels:
    """A label for each vector: the cluster whose centre is most like it and its two neighbours.

    `shares_V` says how much each vector but the last and the one after it tell about each other.

    `labels_C` are those of the clear vectors, which alone make the centres; these move a few times.
    """
    clear_VD, clear_s = vectors_VD[is_clear_V], seconds_V[is_clear_V]
    for _ in range(REFINEMENTS):
        likeness_VC = vectors_VD @ centres(clear_VD, clear_s, labels_C).T
        nearest_V = _with_neighbours(likeness_VC, seconds_V, shares_V).argmax(axis=1)
        moved_C = nearest_V[is_clear_V]
        if len(np.unique(moved_C)) <= labels_C.max() or (moved_C == labels_C).all():
            break
        labels_C = moved_C
    nearest_V[is_clear_V] = labels_C
    return nearest_V


def _with_neighbours(likeness_VC: NDArray, seconds_V: NDArray, shares_V: NDArray) -> NDArray:
    """The likeness of each vector and of the two beside it, which count by their seconds."""
    weighed_VC = likeness_VC * seconds_V.clip(*WEIGHED_S)[:, None]
    sums_VC = weighed_VC.copy()
    sums_VC[:-1] += shares_V[:, None] * weighed_VC[1:]
    sums_VC[1:] += shares_V[:, None] * weighed_VC[:-1]
    return sums_VC


def centres(vectors_VD: Vectors, seconds_V: NDArray, labels_V: Labels) -> Vectors:
    """The mean of each cluster, of length 1."""
    return _of_length_1(_means(vectors_VD, seconds_V, labels_V)[0])


def in_order(labels_V: Labels) -> Labels:
    """The same clusters, numbered in the order in which they first occur."""
    _, first_C, inverse_V = np.unique(labels_V, return_index=True, return_inverse=True)
    rank_C = np.empty(len(first_C), np.int64)
    rank_C[np.argsort(first_C)] = np.arange(len(first_C))
    return rank_C[inverse_V]


def _by_spectrum(vectors_VD: Vectors, limits: ClusteringLimits) -> Labels:
    """Spectral clustering; the widest gap between eigenvalues says how many clusters there are."""
    eigenvalues_V, eigenvectors_VV = np.linalg.eigh(_laplacian(vectors_VD))
    least = min(limits.min_clusters, len(vectors_VD))
    most = min(limits.max_clusters or MAX_CLUSTERS, len(vectors_VD) - 1)
    gaps = np.diff(eigenvalues_V[: max(most, least) + 1])[least - 1 :]
    num_clusters = least + int(gaps.argmax()) if len(gaps) else least
    return k_means(_of_length_1(eigenvectors_VV[:, :num_clusters]), num_clusters)


def _laplacian(vectors_VD: Vectors) -> NDArray[np.float64]:
    """The normalised Laplacian of the graph in which each vector knows those most like it."""
    alike_VV = (vectors_VD @ vectors_VD.T).astype(np.float64)
    np.fill_diagonal(alike_VV, -np.inf)
    num_neighbours = max(round(NEIGHBOUR_SHARE * len(alike_VV)), MIN_NEIGHBOURS)
    nearest = np.argsort(-alike_VV, axis=1, kind="stable")[:, :num_neighbours]
    kept_VV = np.zeros_like(alike_VV)
    np.put_along_axis(kept_VV, nearest, np.take_along_axis(alike_VV, nearest, axis=1), axis=1)
    kept_VV = np.maximum(kept_VV, 0)
    graph_VV = (kept_VV + kept_VV.T) / 2
    degree_V = np.sqrt(graph_VV.sum(axis=1) + 1e-9)
    return np.eye(len(graph_VV)) - graph_VV / degree_V[:, None] / degree_V


def k_means(points_VD: NDArray, num_clusters: int) -> Labels:
    """Labels by the nearest of the centres, which start as the points farthest from each other."""
    middle_D = points_VD.mean(axis=0)
    centres_CD = points_VD[[np.square(points_VD - middle_D).sum(axis=1).argmax()]]
    while len(centres_CD) < num_clusters:
        distance_V = _squared_distances(points_VD, centres_CD).min(axis=1)
        centres_CD = np.concatenate([centres_CD, points_VD[[distance_V.argmax()]]])
    for _ in range(K_MEANS_STEPS):
        labels_V = _squared_distances(points_VD, centres_CD).argmin(axis=1)
        for label in np.unique(labels_V):
            centres_CD[label] = points_VD[labels_V == label].mean(axis=0)
    return in_order(labels_V)


def _squared_distances(points_VD: NDArray, centres_CD: NDArray) -> NDArray:
    return np.square(points_VD[:, None] - centres_CD[None]).sum(axis=2)


def _merged_while_alike(
    centres_CD: Vectors, seconds_C: NDArray, limits: ClusteringLimits
) -> Labels:
    """Clusters whose centres are one voice: a spectrum may split a long speaker."""
    one_voice = ClusteringLimits(same_voice=ONE_VOICE, min_clusters=limits.min_clusters)
    return agglomerated(centres_CD, seconds_C, one_voice)


def _compressed(vectors_VD: Vectors, seconds_V: NDArray) -> tuple[Labels, NDArray, NDArray]:
    """At most MAX_ROWS clusters, their means and seconds, and the cluster of each vector."""
    labels_V = np.arange(len(vectors_VD), dtype=np.int64)
    means_CD, seconds_C = vectors_VD.astype(np.float64), np.maximum(seconds_V, 1e-3)
    surely = SURELY
    while len(means_CD) > MAX_ROWS:
        merged_C = _merged_in_blocks(means_CD, seconds_C, surely)
        if merged_C.max() + 1 > 0.9 * len(means_CD):
            surely -= 0.1  # so many different voices: blocks have to merge more
        means_CD, seconds_C = _means(means_CD, seconds_C, merged_C)
        labels_V = merged_C[labels_V]
    return labels_V, means_CD, seconds_C


def _merged_in_blocks(means_CD: NDArray, seconds_C: NDArray, same_voice: float) -> Labels:
    limits = ClusteringLimits(same_voice=same_voice)
    labels, num_before = [], 0
    for first in range(0, len(means_CD), MAX_ROWS):
        block = slice(first, first + MAX_ROWS)
        merged = in_order(agglomerated(means_CD[block], seconds_C[block], limits))
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


def agglomerated(means_CD: NDArray, seconds_C: NDArray, limits: ClusteringLimits) -> Labels:
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
