"""Labels of sessions that nobody has labelled, estimated from those that somebody has.

Sessions that hold the same kinds of lines are close to each other, and HDBSCAN (Campello et al.,
2013) finds where they lie close. What belongs to a cluster in which some are known is taken for
what these are, as surely as it belongs to it: the probabilistic labels of PLELog (Yang et al., ICSE
2021), which MetaLog takes over: both know half of the normal sessions, and a cluster without any
of these is anomalous to them. Here, that is one way of two, since a few anomalous sessions may be
all that is known.

Shapes: N sessions to learn from, T texts, D dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from trainer.sessions.corpus import SessionCorpus

#: What a cluster is taken for in which nobody knows a session: nothing, normal, or the more
#: suspicious the smaller it is. Which one serves depends on how anomalies come, in storms or one by
#: one: a part of the labels decides (`ways`).
Unknown = Literal["left_out", "normal", "suspicious"]

#: Of HDBSCAN. So few sessions make a cluster, since most kinds of anomaly are rare.
_SMALLEST_CLUSTER = _NEIGHBOURS = 5

#: Dimensions that it looks at: distances in hundreds of them say little, and take long.
_DIMENSIONS = 50

#: A suspicious cluster of this share of all sessions is as likely anomalous as not.
_EVEN_SHARE = 0.01

#: A session with a line that no normal one is known to hold is at least as likely anomalous.
_NEW_LINE = 0.5

#: How much a session counts that lies in no cluster, or at the edge of one, where it is taken for
#: normal.
_STRAY_WEIGHT = 0.1


class Estimates(NamedTuple):
    """What sessions are taken for.

    Attributes:
        anomalous: how likely each is anomalous, 0 to 1, float32 [N].
        weights: how much it counts, 0 to 1, float32 [N].
    """

    anomalous: NDArray[np.float32]
    weights: NDArray[np.float32]


class Clusters(NamedTuple):
    """Where sessions lie.

    Attributes:
        numbers: of each session, that of its cluster; -1 for none, int64 [N].
        probabilities: how surely it belongs there, 0 to 1, float64 [N].
        held: which texts each session holds, of 0 and 1, [N, T]; none where nobody looked.
    """

    numbers: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    held: csr_array | None = None


def ways(labels: NDArray[np.int8]) -> tuple[Unknown, Unknown]:
    """The ways to take what nobody knows that are worth a try.

    Where no normal session is known, all that are not known must do.

    Args:
        labels: of the sessions, 1, 0 or `NO_LABEL`.
    """
    return ("left_out", "suspicious") if (labels == 0).any() else ("normal", "suspicious")


def cluster_sessions(corpus: SessionCorpus, sessions: NDArray[np.int64]) -> Clusters:
    """Clusters sessions by which texts they hold, the rare ones above all.

    A session's place is the sum of the vectors of its texts, each weighted by how few of the
    sessions hold it. How often a session repeats a line counts for nothing: on HDFS, that would
    part blocks by how often they were read.

    Args:
        corpus: of the system.
        sessions: which ones, [N].
    """
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA

    held = (corpus.counts[sessions] > 0).astype(np.float32)
    holding = held.sum(axis=0)
    rarity = np.log((1 + len(sessions)) / (1 + holding)).astype(np.float32)
    lengths = np.linalg.norm(corpus.vectors, axis=1, keepdims=True)
    places = held @ (rarity[:, None] * corpus.vectors / np.maximum(lengths, 1e-9))
    # Of sessions that are all alike, no part lies closer together than the rest.
    if len(sessions) <= _SMALLEST_CLUSTER or not np.ptp(places, axis=0).any():
        return Clusters(np.full(len(sessions), -1), np.zeros(len(sessions)), held)
    dimensions = min(_DIMENSIONS, *places.shape)
    reduced = PCA(dimensions, svd_solver="full").fit_transform(places)
    found = HDBSCAN(_SMALLEST_CLUSTER, min_samples=_NEIGHBOURS, copy=True).fit(reduced)
    return Clusters(found.labels_.astype(np.int64), found.probabilities_, held)


def estimate_labels(clusters: Clusters, labels: NDArray[np.int8], unknown: Unknown) -> Estimates:
    """Estimates the labels of sessions from those of some of them.

    Args:
        clusters: where the sessions lie.
        labels: of each, 1, 0 or `NO_LABEL`, [N].
        unknown: what a cluster is taken for in which none has a label.
    """
    numbers, probabilities, _ = clusters
    inside = numbers >= 0
    total = int(numbers.max(initial=-1)) + 1
    sizes = np.bincount(numbers[inside], minlength=total)
    size = np.zeros(len(labels))
    size[inside] = sizes[numbers[inside]]
    if unknown == "suspicious":
        even = _EVEN_SHARE * len(labels)
        anomalous, weights = even / (even + size), np.ones(len(labels))
    elif unknown == "left_out":
        anomalous, weights = np.zeros(len(labels)), np.zeros(len(labels))
    else:
        anomalous = np.zeros(len(labels))
        # Around sessions that are all the same, HDBSCAN gives those that nearly are a 0.
        weights = np.maximum(np.where(inside, probabilities, 0), _STRAY_WEIGHT)
    known = inside & (labels != NO_LABEL)
    labelled = np.bincount(numbers[known], minlength=total)
    bad = np.bincount(numbers[known], weights=labels[known], minlength=total)
    told = inside.copy()
    told[inside] = labelled[numbers[inside]] > 0
    share = bad[numbers[told]] / labelled[numbers[told]]
    # What hardly belongs to its cluster is taken for what it is half way between.
    sure = probabilities[told]
    anomalous[told] = share * sure + anomalous[told] * (1 - sure)
    weights[told] = np.maximum(weights[told], sure)
    if unknown == "suspicious" and clusters.held is not None and (labels == 0).any():
        new = _with_new_lines(clusters.held, labels)
        # What lies in no cluster is rare. That does not make it suspicious where each of its lines
        # is one of normal sessions: windows of a busy log are all different.
        anomalous[~inside] = new[~inside]
        anomalous[new] = np.maximum(anomalous[new], _NEW_LINE)
    given = labels != NO_LABEL
    anomalous[given], weights[given] = labels[given], 1
    return Estimates(anomalous.astype(np.float32), weights.astype(np.float32))


def _with_new_lines(held: csr_array, labels: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Which sessions hold a text that none does which is known to be normal."""
    unknown = (held[labels == 0].sum(axis=0) == 0).astype(np.float32)
    return np.asarray(held @ unknown > 0)
