"""Scoring of one batch beside delivery of the one before, while the next is read."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from time import time
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.delivery import Event
from agent.judging import AbandonedError, Lines
from crosyslog.errors import CrosyslogError
from crosyslog.events import to_json

if TYPE_CHECKING:
    from agent.delivery import Delivery
    from agent.judging import Judge, Judged
    from agent.metrics import Metrics
    from agent.partition import Batch

log = logging.getLogger(__name__)

#: Batches that wait before a stage. One is enough to keep both busy; more would only be memory.
_WAITING = 1


class Pipeline:
    """Takes batches, in order, through scoring and delivery.

    Scoring runs in one thread of its own: the event loop must turn, or the group would think the
    agent dead.
    """

    def __init__(self, judge: Judge, delivery: Delivery, metrics: Metrics) -> None:
        self._judge = judge
        self._delivery = delivery
        self._metrics = metrics
        self._read: asyncio.Queue[Batch | None] = asyncio.Queue(_WAITING)
        self._judged: asyncio.Queue[tuple[Batch, Judged, list[Event]] | None] = asyncio.Queue(
            _WAITING
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scoring")

    async def submit(self, batch: Batch) -> None:
        """Takes a batch in; waits while the pipeline is full."""
        batch.assignment.batch_taken()
        try:
            await self._read.put(batch)
        except BaseException:
            batch.assignment.batch_settled()
            raise

    async def run(self) -> None:
        """Works until `finish` and all that was submitted before it is done.

        Raises:
            CrosyslogError: a batch cannot be scored, or never be delivered; it is not committed.
        """
        stages = [asyncio.create_task(self._score()), asyncio.create_task(self._deliver())]
        try:
            await asyncio.gather(*stages)
        finally:
            for stage in stages:
                stage.cancel()
            await asyncio.gather(*stages, return_exceptions=True)
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def finish(self) -> None:
        """Says that nothing more will be submitted."""
        await self._read.put(None)

    async def _score(self) -> None:
        loop = asyncio.get_running_loop()
        while (batch := await self._read.get()) is not None:
            if not batch.assignment.active:
                batch.assignment.batch_settled()
                continue
            fresh = batch.fresh()
            lines = int(fresh.sum())
            self._metrics.lines_received.inc(lines)
            self._metrics.batch_lines.observe(lines)
            try:
                judged, events = await loop.run_in_executor(
                    self._thread, self._judge_batch, batch, fresh
                )
            except AbandonedError:
                batch.assignment.batch_settled()
                continue
            except CrosyslogError:
                raise
            except Exception as error:
                self._metrics.error("score", error)
                log.exception("a batch cannot be scored")
                raise CrosyslogError(
                    f"cannot score {_places(batch)} ({type(error).__name__}, see the log): the "
                    "agent stops, and has committed none of them"
                ) from error
            for stage, seconds in judged.seconds.items():
                self._metrics.stage_duration.labels(stage).observe(seconds)
            await self._judged.put((batch, judged, events))
        await self._judged.put(None)

    def _judge_batch(self, batch: Batch, fresh: np.ndarray) -> tuple[Judged, list[Event]]:
        """In the scoring thread: from lines to events as they are published."""
        assignment = batch.assignment
        sizes = [len(chunk.offsets) for chunk in batch.chunks]
        lines = Lines(
            batch.chunks[0].partition.topic,
            [value for chunk in batch.chunks for value in chunk.values],
            np.repeat([chunk.partition.partition for chunk in batch.chunks], sizes),
            np.concatenate([chunk.offsets for chunk in batch.chunks]),
            fresh,
        )
        judged = self._judge.judge(lines, assignment.states, lambda: assignment.active)
        assignment.states = judged.states
        keys = [key for chunk in batch.chunks for key in chunk.keys]
        events = [
            Event(
                event["anomaly"]["id"],
                event["source"]["partition"],
                _key(keys[row], event["resource"].get("host.name")),
                to_json(event),
            )
            for row, event in zip(judged.rows, judged.events, strict=True)
        ]
        return judged, events

    async def _deliver(self) -> None:
        while (item := await self._judged.get()) is not None:
            batch, judged, events = item
            assignment = batch.assignment
            try:
                if await self._deliver_unless_ended(batch, events):
                    self._count(batch, judged, events)
            finally:
                assignment.batch_settled()

    async def _deliver_unless_ended(self, batch: Batch, events: list[Event]) -> bool:
        if not batch.assignment.active:
            return False
        work = asyncio.create_task(self._delivery.deliver(events, batch.next_offsets()))
        try:
            either: set[asyncio.Future[Any]] = {work, batch.assignment.ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return work.done() and work.result()
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    def _count(self, batch: Batch, judged: Judged, events: list[Event]) -> None:
        assignment, metrics = batch.assignment, self._metrics
        assignment.delivered.update(batch.next_offsets())
        metrics.lines_scored.inc(len(judged.scores))
        metrics.anomalies.inc(len(events))
        metrics.novel_lines.inc(judged.novel)
        metrics.unsplit_lines.inc(judged.unsplit)
        metrics.score.observe(judged.scores)
        times = np.concatenate([chunk.times for chunk in batch.chunks])[batch.fresh()]
        # A producer may send no time, which Kafka calls -1; clocks may differ.
        latency = np.maximum(time() - times[times >= 0] / 1000, 0)
        metrics.end_to_end_latency.observe(latency)


def _key(given: bytes | None, host: str | None) -> bytes | None:
    if given is not None:
        return given
    return host.encode() if host is not None else None


def _places(batch: Batch) -> str:
    first = {chunk.partition: chunk.offsets[0] for chunk in reversed(batch.chunks)}
    last = {chunk.partition: chunk.offsets[-1] for chunk in batch.chunks}
    return ", ".join(f"{tp.topic}/{tp.partition}/{first[tp]} to {last[tp]}" for tp in sorted(first))
