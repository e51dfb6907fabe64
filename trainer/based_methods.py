"""The methods that adapt a base to a task's support and score its query as the agent does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.errors import SettingError
from crosyslog.evidence_network import EvidenceDetector
from crosyslog.windows import WINDOW
from trainer.asking import asked_in_rounds
from trainer.baselines import Judgement, Known
from trainer.tasks import LabelledStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.manifest import Manifest
    from crosyslog.systems import System
    from trainer.protocol import Plan

    #: From what is known and where the query starts, to a judgement of its lines.
    Method = Callable[[Known, int], Judgement]

    #: The same, with one judgement after each inner step.
    SteppedMethod = Callable[[Known, int], Iterator[Judgement]]

#: The published form, and ours as it stands.
BASED = ("maml_lstm", "crosyslog")

#: Parts that the second table splits a stream into, as a topic has partitions.
PARTITIONS = 8

#: Inner steps of which the paper's protocol takes the best one.
_PAPER_STEPS = 15


class BasedMethods:
    """A base over a stream."""

    def __init__(
        self,
        base: Bundle,
        stream: LabelledStream,
        offsets: pl.Series,
        *,
        plan: Plan,
        system: System,
        encoder: Encoder,
        cache: EmbeddingCache,
        hosts: NDArray[np.uint32] | None = None,
    ) -> None:
        """Prepares a stream.

        Args:
            base: what is adapted: one that `refuse_known` lets pass.
            stream: what is judged.
            offsets: the place of each of its lines in the log: windows are aligned to them.
            plan: what the tasks are drawn by.
            system: the profile of the stream's lines.
            encoder: the base's.
            cache: holds the stream's vectors.
            hosts: a number for the host of each line; the stream can be split by it then.

        Raises:
            BundleVersionError: the base was made with another encoder.
        """
        import polars as pl

        from trainer.adaptation import check_encoder

        check_encoder(base.manifest, encoder)
        self._base = base
        self._stream = stream
        self._plan = plan
        self._system = system
        self._encoder = encoder
        self._cache = cache
        # Masking a template again changes nothing, so the templates stand for the lines.
        texts = pl.Series("text", stream.templates)[pl.Series(stream.rows)]
        lines = pl.DataFrame({"offset": offsets, "text": texts})
        self._whole = lines.with_columns(stream=pl.lit(stream.name))
        self._by_host: pl.DataFrame | None = None
        if hosts is not None:
            part = pl.Series("stream", hosts % PARTITIONS).cast(pl.String)
            self._by_host = lines.with_columns(part).with_columns(
                offset=pl.int_range(pl.len()).over("stream")
            )
        self._adapted: tuple[Known, Bundle] | None = None

    def method(self, name: str, *, by_host: bool = False) -> Method:
        """One of `BASED`.

        Args:
            name: which.
            by_host: with the stream split into `PARTITIONS` by the lines' hosts, so that a
                window holds lines of some hosts only, as it does in a partition of Kafka.
        """
        lines = self._by_host if by_host else self._whole
        assert lines is not None  # noqa: S101 - asked for where hosts were given

        def judge(known: Known, middle: int) -> Judgement:
            return self._score(self._adapt(known), lines, middle, with_memory=name == "crosyslog")

        return judge

    def stepped(self, name: str) -> SteppedMethod:
        """One of `BASED` after each of the inner steps that the paper's protocol looks at."""

        def judge(known: Known, middle: int) -> Iterator[Judgement]:
            one_step = self._base.manifest.inner_loop.model_copy(update={"steps": 1})
            manifest = self._base.manifest.model_copy(update={"inner_loop": one_step})
            bundle = replace(self._base, manifest=manifest)
            for _ in range(_PAPER_STEPS):
                # Steps keep nothing but the weights, so one after the other is all of them.
                adapted = self._adapt_from(bundle, known)
                yield self._score(adapted, self._whole, middle, with_memory=name == "crosyslog")
                bundle = replace(bundle, detector=adapted.detector)

        return judge

    def _score(
        self, bundle: Bundle, lines: pl.DataFrame, middle: int, *, with_memory: bool
    ) -> Judgement:
        from crosyslog.scorer import Scorer

        manifest = bundle.manifest.model_copy(update={"memory": with_memory})
        scorer = Scorer(replace(bundle, manifest=manifest), self._encoder, self._cache)
        scored, _ = scorer.score(self._with_window_starts(lines, middle), {})
        query = scored.tail(self._plan.query)
        return Judgement(query["score"].to_numpy(), query["anomalous"].to_numpy())

    def _with_window_starts(self, lines: pl.DataFrame, middle: int) -> pl.DataFrame:
        """The query behind the lines of its first windows that came before, as the agent reads."""
        import polars as pl

        query = lines.slice(middle, self._plan.query)
        first = query.group_by("stream").agg(
            (pl.col("offset").first() // WINDOW * WINDOW).alias("start")
        )
        before = (
            lines.head(middle)
            .join(first, on="stream", how="inner", maintain_order="left")
            .filter(pl.col("offset") >= pl.col("start"))
            .drop("start")
        )
        return pl.concat([before, query])

    def _adapt(self, known: Known) -> Bundle:
        """Adapts once a task, for all methods that start from the base."""
        if self._adapted is None or self._adapted[0] is not known:
            self._adapted = known, self._adapt_from(self._base, known)
        return self._adapted[1]

    def _adapt_from(self, base: Bundle, known: Known) -> Bundle:
        from trainer.adaptation import adapt_to_stream

        if known.history is not None and isinstance(base.detector, EvidenceDetector):
            known = asked_in_rounds(base, known, known.history)
        used, rows = np.unique(known.rows, return_inverse=True)
        support = LabelledStream(
            self._stream.name,
            [known.templates[row] for row in used],
            known.vectors[used],
            rows.astype(np.int64),
            known.labels,
        )
        return adapt_to_stream(
            base,
            support,
            system=self._system,
            quiet=self._plan.quiet_alerts,
            version="unsaved",
            command="",
        )


def refuse_known(base: Manifest, target: str, system: System) -> None:
    """Refuses a base that was trained on the system that it would be judged on.

    Raises:
        SettingError: it was.
    """
    known = {target, system.name} & set(base.sources)
    if known:
        raise SettingError(
            f"the base {base.target} was trained on {', '.join(sorted(known))}: a system is judged "
            "with a base that does not know it; name another with --base, or `trainer train` one "
            "without it"
        )
