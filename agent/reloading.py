"""Another version of the model, taken over between two batches while the agent runs."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from agent.judging import Judge, Lines
from crosyslog.errors import CrosyslogError, StoreAwayError, StoreError
from crosyslog.store import adapted_model, can_name_target, open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.metrics import Metrics
    from agent.settings import Settings
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.store import Model

log = logging.getLogger(__name__)

T = TypeVar("T")

#: What a new model is tried on beside the examples of its profile.
_PROBE = (b"a line that no system has ever written", b"", b"\xff\x00 [] {} %s 17")

#: A store that cannot be read is told of this often.
_TELL_SECONDS = 300.0


class Reloading:
    """Looks at the store, and hands over a judge for each version that comes into use.

    A version that cannot be used leaves the old one at work, and is not tried again. So does a
    store that cannot be read, until it can.
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
        self._store = open_store(settings.model.store, settings.encoder.cache)
        self._seen = judge.model.bundle.manifest.version if judge.model.adapted else None
        self._told_at: float | None = None

    async def run(self, take: Callable[[Judge, bool], Awaitable[None]]) -> None:
        """Looks at the store now and then.

        Args:
            take: puts a judge to work; it is told whether the lines of open windows have to be
                read again, since this model reads them otherwise than the one before.
        """
        interval, target = self._settings.model.reload_interval, self._settings.target
        while interval:
            await asyncio.sleep(interval)
            if not can_name_target(target):
                continue  # no store can have a model of it
            try:
                version = await _apart(partial(self._store.current, target))
            except CrosyslogError as error:
                self._tell(error)
                continue
            if version is None or version == self._seen:
                self._tell(None)
                continue
            before, self._seen = self._seen, version
            try:
                folder = await _apart(partial(self._store.in_use, target))
                judge = await asyncio.to_thread(self._load, folder)
            except StoreAwayError as error:
                self._seen = before
                self._tell(error)
                continue
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

    def _tell(self, error: CrosyslogError | None) -> None:
        """Says now and then that the store cannot be read, and once that it can again."""
        if error is None:
            if self._told_at is not None:
                log.info("the store can be read again")
            self._told_at = None
            return
        self._metrics.error("reload", error)
        if self._told_at is None or monotonic() - self._told_at >= _TELL_SECONDS:
            log.warning("no other model can be taken, this one stays in use: %s", error)
            self._told_at = monotonic()

    def _load(self, folder: Path | None) -> Judge:
        """A judge of a stored model, which has judged some lines already."""
        import polars as pl

        if folder is None:
            raise StoreError("it is not in the store any more")
        settings = self._settings
        judge = Judge(
            adapted_model(folder),
            self._encoder,
            self._cache,
            settings.model.threshold,
            settings.batch.max_line_bytes,
        )
        values = [*_PROBE, *(example.line.encode() for example in judge.model.system.examples)]
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


async def _apart(ask: Callable[[], T]) -> T:
    """What a call returns, in a thread that nobody waits for: a store may be long in answering."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return  # nobody waits for it any more
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(cast("T", result))

    def work() -> None:
        result, failure = None, None
        try:
            result = ask()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            failure = error
        # After the end of the loop nobody is there to be told.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="ask-store", daemon=True).start()
    return await answer


def _reads(model: Model) -> tuple[object, ...]:
    """What the lines that a model keeps of a window depend on."""
    return (model.system, model.bundle.manifest.masking, model.bundle.detector.reads_context)
