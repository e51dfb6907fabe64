"""What a network over sessions must beat: rules and models over which templates a session holds.

Each is given the sessions to learn from with estimated labels (`trainer.sessions.estimates`) and
with those that are known, and scores all sessions of the corpus; how the unknown ones are taken,
and where a threshold lies, is chosen as for the network.

Shapes: S sessions of a corpus, N of them to learn from, T texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from trainer.sessions.corpus import SessionCorpus
    from trainer.sessions.training import Lessons

    Baseline = Callable[[Lessons, NDArray[np.int8]], NDArray[np.float32]]

#: Of LogCluster (Lin et al., ICSE 2016), as its reimplementation in loglizer has it: sessions whose
#: cosine distance to a cluster's farthest is below this belong to it.
FARTHEST = 0.3

#: Distinct sessions that are clustered; of more, so many are drawn.
_MOST_CLUSTERED = 4_000


def never_seen(lessons: Lessons, labels: NDArray[np.int8]) -> NDArray[np.float32]:
    """How many texts a session holds that no session does which is known to be normal, [S].

    Where none is known to be, that no session to learn from does.
    """
    counts = lessons.corpus.counts
    normal = lessons.sessions[labels == 0] if (labels == 0).any() else lessons.sessions
    unseen = (counts[normal] > 0).sum(axis=0) == 0
    return np.asarray((counts > 0) @ unseen.astype(np.float32), dtype=np.float32)


def count_logreg(lessons: Lessons, labels: NDArray[np.int8]) -> NDArray[np.float32]:
    """The logit of a logistic regression on how often a session holds each text, [S].

    Counts are taken by their logarithm, and weighted by how few sessions hold the text. Texts that
    came up later are one column together.
    """
    from sklearn.linear_model import LogisticRegression

    del labels
    columns = _counted(lessons.corpus, lessons.sessions)
    known = columns[lessons.sessions]
    anomalous, weights = (part.astype(np.float64) for part in lessons.estimates)
    # Each session twice, as anomalous and as normal, as far as it is taken for that; both kinds
    # count alike in sum.
    parts = weights * anomalous, weights * (1 - anomalous)
    balanced = [part / max(part.sum(), 1e-12) * len(known) / 2 for part in parts]
    kinds = np.repeat([True, False], len(known))
    model = LogisticRegression(max_iter=1_000)
    model.fit(np.concatenate([known, known]), kinds, sample_weight=np.concatenate(balanced))
    return np.asarray(model.decision_function(columns), dtype=np.float32)


def count_clusters(lessons: Lessons, labels: NDArray[np.int8]) -> NDArray[np.float32]:
    """How far a session lies from the clusters of those to learn from, by its counts, [S].

    The cosine distance to the nearest cluster's centre, 0 to 1 (LogCluster). Where a session that
    is known to be anomalous made that cluster, 2 less the distance: farther than any.
    """
    from sklearn.cluster import AgglomerativeClustering

    columns = _unit(_counted(lessons.corpus, lessons.sessions))
    known = columns[lessons.sessions]
    distinct, member = np.unique(known, axis=0, return_inverse=True)
    if len(distinct) > _MOST_CLUSTERED:
        drawn = np.random.default_rng(0).choice(len(distinct), _MOST_CLUSTERED, replace=False)
        distinct = distinct[np.sort(drawn)]
        # Every session still belongs to the one of these that it is most like.
        member = (known @ distinct.T).argmax(axis=1)
    if len(distinct) == 1:
        found = np.zeros(1, dtype=np.int64)
    else:
        found = AgglomerativeClustering(
            None, metric="cosine", linkage="complete", distance_threshold=FARTHEST
        ).fit_predict(distinct)
    total = int(found.max()) + 1
    of_session = found[member.reshape(-1)]
    centres = np.zeros((total, known.shape[1]))
    np.add.at(centres, of_session, known)
    distances = np.clip(1 - columns @ _unit(centres).T, 0, 1)
    bad = np.isin(np.arange(total), of_session[labels == 1])
    nearest = distances.argmin(axis=1)
    distance = distances[np.arange(len(columns)), nearest]
    return np.asarray(np.where(bad[nearest], 2 - distance, distance), dtype=np.float32)


#: The baselines by name, and whether each needs a label.
BASELINES: dict[str, tuple[Baseline, bool]] = {
    "never_seen": (never_seen, False),
    "count_logreg": (count_logreg, True),
    "count_clusters": (count_clusters, False),
}


def _counted(corpus: SessionCorpus, sessions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logarithms of counts, weighted by rarity; the last column is of all unseen texts."""
    counts: csr_array = corpus.counts
    holding = (counts[sessions] > 0).sum(axis=0)
    seen = holding > 0
    unseen = counts @ (~seen).astype(np.float32)
    dense = np.column_stack([counts[:, np.flatnonzero(seen)].toarray(), unseen])
    weights = 1 + np.log((1 + len(sessions)) / (1 + np.append(holding[seen], 0)))
    return np.asarray(np.log1p(dense) * weights, dtype=np.float64)


def _unit(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1."""
    lengths = np.linalg.norm(columns, axis=1, keepdims=True)
    return np.asarray(columns / np.maximum(lengths, 1e-12))
