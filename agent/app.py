"""The running agent: what it consists of, how it starts, and how it stops."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from agent.at_least_once import AtLeastOnce
from agent.connection import prepare_topics
from agent.exactly_once import ExactlyOnce
from agent.fetching import Fetching
from agent.http import HttpServer
from agent.judging import Judge
from agent.metrics import Metrics
from agent.pipeline import Pipeline
from agent.publishing import Outputs
from agent.reloading import Reloading
from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.encoder import load_encoder
from crosyslog.store import can_name_target, find_model, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.delivery import Delivery
    from agent.settings import Settings
    from crosyslog.encoder import Encoder
    from crosyslog.store import Model

log = logging.getLogger(__name__)

#: From the signal to the end are at most 10 s: this much of it is for what is in flight, the rest
#: for closing the producer and leaving the group.
_DRAIN_SECONDS = 6.0

_LAG_SECONDS = 1.0

_DELAY_EVERY_SECONDS = 0.02

#: New objects after which cycles are looked for among the young, and how often among the older.
_GC_THRESHOLDS = (200_000, 10, 20)

_SWITCH_SECONDS = 0.00002


class Loaded(NamedTuple):
    """A model that is ready to judge.

    Attributes:
        judge: it.
        encoder: what it encodes with.
        cache: of vectors, which is to be closed.
    """

    judge: Judge
    encoder: Encoder
    cache: EmbeddingCache


class App:
    """One agent, from its settings to its end.

    Attributes:
        metrics: what it counts.
        http: where that is served.
    """

    def __init__(
        self, settings: Settings, load: Callable[[str, str, str], Encoder] = load_encoder
    ) -> None:
        """Prepares an agent that does nothing yet.

        Args:
            settings: all of them.
            load: loads an encoder by name, device and precision.
        """
        self.metrics = Metrics()
        self.http = HttpServer(self.metrics.registry, self)
        self._settings = settings
        self._load = load
        self._stopping = asyncio.Event()
        self._fetching: Fetching | None = None
        self._delivery: Delivery | None = None
        self._loader: threading.Thread | None = None
        kafka = settings.kafka
        self.metrics.describe(kafka.resolved_topic, kafka.resolved_group, self.not_ready)

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    @property
    def loading(self) -> bool:
        """Whether the model is being loaded; it may still be after `run`, which cannot stop it."""
        return self._loader is not None and self._loader.is_alive()

    def not_started(self) -> str | None:
        """Why the start is not complete; none if it is."""
        return "starting" if self._fetching is None else self._fetching.not_started()

    def not_ready(self) -> str | None:
        """Why no line can be scored and delivered now; none if they can."""
        if self._fetching is None or self._delivery is None:
            return "starting"
        if self.stopping:
            return "stopping"
        return self._fetching.not_ready() or self._delivery.not_ready()

    def stop(self) -> None:
        """Asks the agent to finish what is in flight, and to end."""
        self._stopping.set()

    async def run(self) -> None:
        """Runs until `stop` is called.

        Raises:
            CrosyslogError: it cannot start, or a batch cannot be scored or delivered.
        """
        stopping = asyncio.create_task(self._stopping.wait())
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await self._work(*starting.result(), stopping)
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self.http.stop()

    async def _start(self) -> tuple[Loaded, Outputs]:
        settings = self._settings
        # Nothing is logged before all of this went well: what a user got wrong is one line.
        await self.http.start(settings.http)
        kafka = settings.kafka
        await prepare_topics(kafka)
        loaded, told = await self._load_judge()
        self.metrics.watch_cache(loaded.cache)
        self.metrics.use_model(loaded.judge.model)
        log.info("metrics and health at http://%s:%d", settings.http.host, self.http.port)
        log.log(logging.WARNING if loaded.judge.model.away else logging.INFO, "%s", told)
        gc.freeze()  # what is loaded stays
        return loaded, Outputs(kafka.resolved_output_topic, kafka.resolved_dead_letter_topic)

    async def _load_judge(self) -> tuple[Loaded, str]:
        """Loads in a thread that nobody waits for: it takes half a minute, a stop a moment.

        Returns:
            What is loaded, and what to say of it.
        """
        loop = asyncio.get_running_loop()
        loaded: asyncio.Future[tuple[Loaded, str]] = loop.create_future()

        def settle(result: tuple[Loaded, str] | None, error: BaseException | None) -> None:
            if loaded.done():
                # The agent was stopped meanwhile.
                if result is not None:
                    result[0].cache.close()
            elif result is not None:
                loaded.set_result(result)
            elif error is not None:
                loaded.set_exception(error)

        def load() -> None:
            result, failure = None, None
            try:
                judging = load_judge(self._settings, self._load)
                result = judging, describe_model(judging.judge.model, self._settings)
            except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
                failure = error
            # After the end of the loop nobody is there to be told.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, failure)

        self._loader = threading.Thread(target=load, name="load-model", daemon=True)
        self._loader.start()
        return await loaded

    async def _work(self, loaded: Loaded, outputs: Outputs, stopping: asyncio.Task[bool]) -> None:
        settings, metrics = self._settings, self.metrics
        fetching = Fetching(settings.kafka, settings.batch, metrics)
        delivery = _delivery(settings, fetching, metrics)
        pipeline = Pipeline(loaded.judge, delivery, outputs, metrics, fetching.lost)
        reloading = Reloading(settings, *loaded, metrics)
        self._fetching, self._delivery = fetching, delivery

        async def take(judge: Judge, again: bool) -> None:
            if again:
                # What is in flight ends as it began; nothing is read before the next line runs.
                await fetching.restart()
            pipeline.judge = judge

        reading = asyncio.create_task(fetching.run(delivery, pipeline.submit, pipeline.appetite))
        working = asyncio.create_task(pipeline.run())
        beside = [
            asyncio.create_task(delivery.run(fetching.lost)),
            asyncio.create_task(self._measure(fetching)),
            asyncio.create_task(self._measure_delay()),
        ]
        if settings.model.reload_interval:
            beside.append(asyncio.create_task(reloading.run(take)))
        tasks = (reading, working, *beside)
        try:
            await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            if not working.done():
                await self._drain(pipeline, fetching, working)
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await fetching.leave()
            await delivery.stop()
            loaded.cache.close()
        log.info("stopped")

    async def _drain(
        self, pipeline: Pipeline, fetching: Fetching, working: asyncio.Task[None]
    ) -> None:
        log.info("stopping: finishing what is in flight")
        if fetching.assignment is not None:
            await fetching.let_go(fetching.assignment, _DRAIN_SECONDS)
        # Whatever is left has ended with its assignment, so this is quick.
        await pipeline.finish()
        await asyncio.wait({working}, timeout=1.0)

    async def _measure(self, fetching: Fetching) -> None:
        while True:
            await fetching.measure_lag()
            await asyncio.sleep(_LAG_SECONDS)

    async def _measure_delay(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time() + _DELAY_EVERY_SECONDS
            await asyncio.sleep(_DELAY_EVERY_SECONDS)
            self.metrics.loop_delay.observe(max(0.0, loop.time() - asked))


def _delivery(settings: Settings, fetching: Fetching, metrics: Metrics) -> Delivery:
    interval = settings.delivery.commit_interval
    if settings.delivery.guarantee == "exactly-once":
        return ExactlyOnce(settings.kafka, fetching.committed, metrics, interval)
    return AtLeastOnce(settings.kafka, fetching.commit, metrics, interval)


def load_judge(
    settings: Settings, load: Callable[[str, str, str], Encoder] = load_encoder
) -> Loaded:
    """The model of the settings' target, ready to judge.

    Raises:
        StoreError, BundleError: there is no model that can be used.
        EncoderError, SettingError: the encoder cannot be loaded.
    """
    store = open_store(settings.model.store, settings.encoder.cache)
    model = find_model(store, settings.target, settings.model.base, last_known=True)
    wanted, made_with = settings.encoder, model.bundle.manifest.encoder
    encoder = load(
        wanted.name or made_with.name, wanted.device, wanted.precision or made_with.precision
    )
    cache = EmbeddingCache(settings.encoder.cache, settings.encoder.cache_entries)
    judge = Judge(model, encoder, cache, settings.model.threshold, settings.batch.max_line_bytes)
    return Loaded(judge, encoder, cache)


def describe_model(model: Model, settings: Settings) -> str:
    """Which model is in use, and what to do if it is none of the target's own."""
    target = settings.target
    manifest = model.bundle.manifest
    if model.adapted:
        told = f"model {manifest.target}/{manifest.version}, lines read as {model.system.name}"
        away = f"; it was in use when the store was seen last ({model.away})" if model.away else ""
        return told + away
    there = ", ".join(open_store(settings.model.store, settings.encoder.cache).targets())
    return (
        f"no model for {target!r}{f' (there are models for {there})' if there else ''}: running on "
        f"the base {manifest.target!r}, lines read as {model.system.name}"
        + (f"; `trainer adapt --target {target}` makes one" if can_name_target(target) else "")
    )


def run(settings: Settings) -> None:
    """Runs an agent until SIGTERM or SIGINT; a second one ends it at once.

    Raises:
        CrosyslogError: it cannot start, or a batch cannot be scored or delivered.
    """
    import uvloop

    # Tens of thousands of records are alive at any time, and none is part of a cycle: by default,
    # looking for cycles among them takes a third of the agent's time.
    gc.set_threshold(*_GC_THRESHOLDS)
    # Lines are read beside those that are scored, and the broker may be on this machine, too: with
    # a thread for every core, each waits for the others. Polars reads it when it is loaded.
    os.environ.setdefault("POLARS_MAX_THREADS", str(max(1, len(os.sched_getaffinity(0)) // 2)))
    # The scoring thread is inside Polars for most of its time, and each time that it comes out, it
    # waits this long for the thread that reads records.
    sys.setswitchinterval(_SWITCH_SECONDS)

    async def main() -> App:
        app = App(settings)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _on_signal, app, number)
        await app.run()
        return app

    if uvloop.run(main()).loading:
        # The interpreter cannot end in order beside a thread inside torch.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def _on_signal(app: App, number: signal.Signals) -> None:
    if app.stopping:
        # The user has seen that it stops and wants it gone now.
        os._exit(128 + number)
    app.stop()
