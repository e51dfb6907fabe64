"""Lines to scores, as a pure function of the partition's log, the offsets and the bundle.

Shapes: B windows, L lines of a window, T templates, P columns of a template.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crosyslog.logits import sigmoid
from crosyslog.manifest import require_encoder
from crosyslog.masking import mask
from crosyslog.threads import torch_threads
from crosyslog.windows import with_windows_so_far

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.windows import PartitionState

#: Windows that one pass of the LSTM takes: bounds its memory, a few MB.
_WINDOWS_A_PASS = 256

#: Templates that the scorer keeps at hand; beyond them it begins anew, from the cache.
_MAX_TEMPLATES = 100_000

#: Explanations that it keeps at hand.
_MAX_EXPLAINED = 10_000

#: Support templates that explain an event.
_NEAREST = 3


class Nearest(NamedTuple):
    """A row of the support that is close to a template, as an explanation.

    Attributes:
        template: its text; none for a base, which holds no text.
        source: the system it comes from, for a base.
        label: `alert` or `normal`.
        similarity: cosine.
    """

    template: str | None
    source: str | None
    label: str
    similarity: float


class Scorer:
    """Scores lines with a bundle; holds no state of a stream, only what it knows of templates."""

    def __init__(
        self,
        bundle: Bundle,
        encoder: Encoder,
        cache: EmbeddingCache,
        threshold: float | None = None,
    ) -> None:
        """Prepares a bundle for scoring.

        Args:
            bundle: the model.
            encoder: the encoder that the bundle was made with.
            cache: where vectors of templates are kept.
            threshold: used in place of the bundle's.

        Raises:
            BundleVersionError: the bundle was made with another encoder.
        """
        require_encoder(bundle.manifest, encoder.id)
        self.bundle = bundle
        self.threshold = bundle.manifest.threshold.value if threshold is None else threshold
        self._encoder = encoder
        self._cache = cache
        self._detector = bundle.detector.to(encoder.device)
        self._support_vectors = bundle.support_vectors
        self._remembered = self._memory()
        #: An anomaly seldom comes alone, and each look at the support takes half a millisecond.
        self._explained: dict[str, tuple[Nearest, ...]] = {}
        self._table = _Templates(self._detector.columns)
        #: What the last call of `score` took, by stage, in seconds.
        self.seconds = {"mask": 0.0, "encode": 0.0, "detect": 0.0}

    def score(
        self, lines: pl.DataFrame, states: Mapping[str, PartitionState]
    ) -> tuple[pl.DataFrame, dict[str, PartitionState]]:
        """Scores a batch of lines.

        Args:
            lines: a frame with `stream` (string), `offset` (integer, ascending within a stream)
                and `text`; other columns pass through.
            states: by stream, what the last call returned; a stream without one starts at the
                first line of the batch.

        Returns:
            The same rows in the same order with `template`, `score` (0 to 1), `anomalous` and
            `novel` added; and the states, with those of the batch's streams renewed if the
            detector reads the lines before a line.
        """
        import polars as pl

        began = perf_counter()
        templates = mask(lines["text"]).rename("template")
        self.seconds = {"mask": perf_counter() - began, "encode": 0.0, "detect": 0.0}
        if lines.is_empty():
            empty = lines.with_columns(
                templates,
                score=pl.lit(0.0, pl.Float32),
                anomalous=pl.lit(value=False),
                novel=pl.lit(value=False),
            )
            return empty, dict(states)
        if self._detector.reads_context:
            frame, renewed = with_windows_so_far(lines, templates, states)
            states = {**states, **renewed}
            rows = self._rows(frame["template"])
            inside = frame["row"].is_not_null().to_numpy()
            place = frame["row"].drop_nulls().to_numpy()
            of_lines = np.empty(lines.height, dtype=np.int64)
            of_lines[place] = rows[inside]
            scores = np.empty(lines.height, dtype=np.float32)
            scores[place] = sigmoid(self._window_logits(frame, rows))[inside]
        else:
            of_lines = self._rows(templates)
            scores = sigmoid(self._table.projected[of_lines, 0])
        table = self._table
        remembered = table.remembered[of_lines]
        scores = np.where(np.isnan(remembered), scores, remembered)
        scored = lines.with_columns(
            templates,
            pl.Series("score", scores),
            pl.Series("anomalous", scores >= self.threshold),
            pl.Series("novel", table.novel[of_lines]),
        )
        self.seconds["detect"] = perf_counter() - began - sum(self.seconds.values())
        return scored, dict(states)

    def nearest(self, template: str) -> tuple[Nearest, ...]:
        """The rows of the support most similar to a template, the most similar first."""
        found = self._explained.get(template)
        if found is None:
            found = self._find_nearest(template)
            if len(self._explained) == _MAX_EXPLAINED:
                self._explained.clear()
            self._explained[template] = found
        return found

    def _find_nearest(self, template: str) -> tuple[Nearest, ...]:
        vector = self._cache.vectors([template], self._encoder)[0]
        similarity = self._support_vectors @ vector
        order = np.argsort(-similarity, kind="stable")[:_NEAREST]
        support = self.bundle.support
        found = []
        for row in order.tolist():
            given: dict[str, Any] = support.row(row, named=True)
            label = "alert" if given["alert"] else "normal"
            found.append(Nearest(given["template"], given["source"], label, float(similarity[row])))
        return tuple(found)

    def _memory(self) -> dict[str, float]:
        """What the support says of its own templates, by template."""
        support = self.bundle.support
        if not self.bundle.manifest.memory or support["template"].null_count() == support.height:
            return {}
        labels = zip(support["template"], support["alert"], strict=True)
        return {template: float(alert) for template, alert in labels}

    def _rows(self, templates: pl.Series) -> NDArray[np.int64]:
        """The row of each line's template in the table, which learns those it lacks."""
        distinct = templates.unique(maintain_order=True)
        missing = [template for template in distinct if template not in self._table.row_of]
        if len(self._table.row_of) + len(missing) > _MAX_TEMPLATES:
            self._table = _Templates(self._detector.columns)
            missing = distinct.to_list()
        if missing:
            self._learn(missing)
        import polars as pl

        rows = [self._table.row_of[template] for template in distinct]
        return (
            templates.replace_strict(distinct, pl.Series(rows, dtype=pl.Int64))
            .to_numpy()
            .astype(np.int64)
        )

    def _learn(self, templates: list[str]) -> None:
        began = perf_counter()
        vectors = self._cache.vectors(templates, self._encoder)
        self.seconds["encode"] += perf_counter() - began
        with torch_threads(1):
            projected = self._detector.template_columns(templates, vectors)
        remembered = np.array(
            [self._remembered.get(template, np.nan) for template in templates], dtype=np.float32
        )
        if len(self._support_vectors):
            closest = (vectors @ self._support_vectors.T).max(axis=1)
        else:
            closest = np.full(len(templates), -1.0, dtype=np.float32)
        novel = np.isnan(remembered) & (closest < self.bundle.manifest.novel_below)
        self._table.add(templates, projected, remembered, novel)

    def _window_logits(self, frame: pl.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logit of each row of a frame that is sorted by window and offset."""
        import torch

        starts = frame["starts"].to_numpy()
        first = np.flatnonzero(starts)
        window = np.cumsum(starts) - 1
        position = np.arange(len(rows)) - first[window]
        logits = np.empty(len(rows), dtype=np.float32)
        ends = np.append(first[1:], len(rows))
        with torch.inference_mode(), torch_threads(1):
            for start in range(0, len(first), _WINDOWS_A_PASS):
                low, high = first[start], ends[min(start + _WINDOWS_A_PASS, len(first)) - 1]
                inside = slice(low, high)
                at = (window[inside] - start, position[inside])
                # The LSTM is causal, so what pads the end of a short window changes nothing.
                padded_BLP = np.zeros(
                    (at[0][-1] + 1, at[1].max() + 1, self._table.projected.shape[1]),
                    dtype=np.float32,
                )
                padded_BLP[at] = self._table.projected[rows[inside]]
                on_device = torch.from_numpy(padded_BLP).to(self._encoder.device)
                logits[inside] = self._detector(on_device).cpu().numpy()[at]
        return logits


class _Templates:
    """What depends on a template and the bundle alone, in columns that grow by doubling."""

    def __init__(self, projected: int) -> None:
        self.row_of: dict[str, int] = {}
        self.projected = np.empty((0, projected), dtype=np.float32)
        self.remembered = np.empty(0, dtype=np.float32)
        self.novel = np.empty(0, dtype=np.bool_)

    def add(
        self,
        templates: list[str],
        projected: NDArray[np.float32],
        remembered: NDArray[np.float32],
        novel: NDArray[np.bool_],
    ) -> None:
        size, needed = len(self.row_of), len(self.row_of) + len(templates)
        if needed > len(self.remembered):
            room = max(needed, 2 * len(self.remembered), 1024)
            self.projected = np.resize(self.projected, (room, self.projected.shape[1]))
            self.remembered = np.resize(self.remembered, room)
            self.novel = np.resize(self.novel, room)
        self.projected[size:needed] = projected
        self.remembered[size:needed] = remembered
        self.novel[size:needed] = novel
        self.row_of.update(zip(templates, range(size, needed), strict=True))
