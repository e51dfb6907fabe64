"""Another version of the model, taken over between two batches while the agent runs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import numpy as np

from agent.judging import Judge, Lines
from crosyslog.errors import CrosyslogError
from crosyslog.store import Store, find_model

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.metrics import Metrics
    from agent.settings import Settings
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.store import Model

log = logging.getLogger(__name__)

#: What a new model is tried on beside the examples of its profile.
_PROBE = (b"a line that no system has ever written", b"", b"\xff\x00 [] {} %s 17")


class Reloading:
    """Looks at the store, and hands over a judge for each version that comes into use.

    A version that cannot be used leaves the old one at work, and is not tried again.
    """

    def __init__(
        self,
        settings: Settings,
        judge: Judge,
        encoder: Encoder,
        cache: EmbeddingCache,
        metrics: Metrics,
    ) -> None:
        """Prepares it.

        Args:
            settings: of the agent.
            judge: at work now.
            encoder: the one that is loaded: a model that needs another one is refused.
            cache: of its vectors.
            metrics: what is counted.
        """
        self._settings = settings
        self._judge = judge
        self._encoder = encoder
        self._cache = cache
        self._metrics = metrics
        self._store = Store(settings.model.store)
        self._seen = self._in_use()

    async def run(self, take: Callable[[Judge, bool], Awaitable[None]]) -> None:
        """Looks at the store now and then.

        Args:
            take: puts a judge to work; it is told whether the lines of open windows have to be
                read again, since this model reads them otherwise than the one before.
        """
        interval = self._settings.model.reload_interval
        while interval:
            await asyncio.sleep(interval)
            version = await asyncio.to_thread(self._in_use)
            if version is None or version == self._seen:
                continue
            self._seen = version
            target = self._settings.target
            try:
                judge = await asyncio.to_thread(self._load)
            except Exception as error:  # noqa: BLE001 - whatever a new model does, the old one stays
                self._metrics.model_reloads.labels("refused").inc()
                self._metrics.error("reload", error)
                told = str(error) if isinstance(error, CrosyslogError) else repr(error)
                log.error(  # noqa: TRY400 - what is wrong is said in the line
                    "model %s/%s is refused, the old one stays in use: %s", target, version, told
                )
                continue
            again = _reads(judge.model) != _reads(self._judge.model)
            self._judge = judge
            await take(judge, again)
            self._metrics.use_model(judge.model)
            self._metrics.model_reloads.labels("taken").inc()
            log.info("model %s/%s is in use from the next batch on", target, version)

    def _in_use(self) -> str | None:
        """The version that the store has in use; none if it has none, or cannot tell now."""
        try:
            return self._store.current(self._settings.target)
        except CrosyslogError:
            return None

    def _load(self) -> Judge:
        """A judge of the version in use, which has judged some lines already."""
        import polars as pl

        settings = self._settings
        model = find_model(self._store, settings.target, settings.model.base)
        judge = Judge(
            model,
            self._encoder,
            self._cache,
            settings.model.threshold,
            settings.batch.max_line_bytes,
        )
        values = [*_PROBE, *(example.line.encode() for example in model.system.examples)]
        count = len(values)
        lines = Lines(
            "probe",
            pl.Series(values, dtype=pl.Binary),
            np.zeros(count, dtype=np.int64),
            np.arange(count),
            np.ones(count, dtype=np.bool_),
        )
        for letter in judge.judge(lines, {}).dead:
            if letter.reason == "scoring":
                raise CrosyslogError(f"it cannot judge {values[letter.row]!r}: {letter.detail}")
        return judge


def _reads(model: Model) -> tuple[object, ...]:
    """What the lines that a model keeps of a window depend on."""
    return (model.system, model.bundle.manifest.masking, model.bundle.detector.reads_context)
