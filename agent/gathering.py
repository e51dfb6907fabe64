"""Lines to batches: closed by size or age, fair to partitions, open to quiet ones' late lines."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError

from agent.partition import Batch, Chunk

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aiokafka import AIOKafkaConsumer

    from agent.partition import Assignment
    from agent.setting_parts import BatchSettings

#: How long a read waits for the first line of a batch.
_IDLE_SECONDS = 0.5

#: A batch waits for more lines because the one before it is at work. Where none is, it waits for
#: this share of the time: some lines are worth a batch of their own, one at a time is not.
_IDLE_SHARE = 0.5

#: While a batch waits to be scored, how often lines of quiet partitions are looked for, and how
#: many at most; a partition with more is busy.
_JOINING_SECONDS, _MOST_JOINING = 0.02, 500

#: How many times the size of a full one a batch that waits may grow to.
_MOST_WAITING = 2

#: A member that does not ask for records for five minutes is put out of the group: while the
#: pipeline is full, one asks this often without taking any.
_SIGN_OF_LIFE_SECONDS = 30.0


class Gathering:
    """Takes lines from the client, and hands them over in batches.

    Attributes:
        waits: whether a batch waits for the one before it: nothing is fetched meanwhile.
        fetched_at: when lines came last, by the monotonic clock.
        idle_since: since when none have come although they were asked for; none if they have.
    """

    def __init__(self, settings: BatchSettings) -> None:
        self.waits = False
        self.fetched_at = monotonic()
        self.idle_since: float | None = None
        self._settings = settings
        self._left: list[Chunk] = []

    def begin_anew(self) -> None:
        """Forgets what was before an assignment."""
        self._left.clear()
        self.fetched_at = monotonic()
        self.idle_since = None

    async def gather(
        self, consumer: AIOKafkaConsumer, assignment: Assignment, appetite: float
    ) -> Batch | None:
        """The next batch, closed by its size or its age; none if no line came."""
        if not assignment.partitions:
            # More agents than partitions: this one stands by.
            await consumer.getmany(timeout_ms=int(_IDLE_SECONDS * 1000))
            return None
        batch = Batch(assignment)
        most = int(min(self._settings.max_lines, appetite))
        for chunk in self._left:
            batch.add(chunk)
        self._left.clear()
        began = monotonic() if batch.lines else None
        while batch.lines < most:
            wait = _IDLE_SECONDS
            if began is not None:
                share = _IDLE_SHARE if assignment.idle else 1.0
                wait = began + share * self._settings.linger - monotonic()
            if wait <= 0:
                break
            await self._fill(consumer, batch, wait, most)
            if assignment.closing:
                return None
            if not batch.lines:
                return None
            if began is None:
                began = monotonic()
        batch.full = batch.lines >= most
        return batch

    async def _fill(self, consumer: AIOKafkaConsumer, batch: Batch, wait: float, most: int) -> None:
        """Adds what is there, in equal shares of the batch's room; waits for the first of it.

        What a quiet partition leaves of its share goes to those that have more: a busy one
        neither starves the others nor waits for them.
        """
        assignment = batch.assignment
        asked = assignment.in_turn()
        share = math.ceil((most - batch.lines) / len(asked))
        if self.idle_since is None:
            self.idle_since = monotonic()
        found = await consumer.getmany(*asked, timeout_ms=math.ceil(wait * 1000), max_records=share)
        if not found:
            return
        self.idle_since = None
        self.fetched_at = monotonic()
        while asked and batch.lines < most:
            share = math.ceil((most - batch.lines) / len(asked))
            hungry = []
            for tp in asked:
                room = min(share, most - batch.lines)
                records = found.pop(tp, None)
                if records is None and room > 0:
                    records = (await consumer.getmany(tp, max_records=room)).get(tp)
                # It is tens of milliseconds in all: others have their turn in between.
                await asyncio.sleep(0)
                if assignment.closing:
                    return
                if records:
                    chunk = Chunk(assignment.partitions[tp], records)
                    batch.add(chunk)
                    if len(records) >= room:
                        hungry.append(tp)
                    if len(records) >= room or _has_more(consumer, chunk):
                        batch.busy.add(chunk.partition)
            asked = hungry

    async def hand_over(
        self, consumer: AIOKafkaConsumer, batch: Batch, submitting: Coroutine[None, None, None]
    ) -> None:
        """Gives a batch to the pipeline; while that is full, lines of quiet partitions join it."""
        handing = asyncio.create_task(submitting)
        self.waits = True
        alive = monotonic()
        failure: KafkaError | None = None
        try:
            while not handing.done():
                await asyncio.wait(
                    {handing, batch.assignment.ended},
                    timeout=_JOINING_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if handing.done() or not batch.assignment.active:
                    break
                if failure is not None or batch.assignment.closing:
                    continue
                try:
                    if not batch.closed:
                        await self._join(consumer, batch)
                    if monotonic() - alive > _SIGN_OF_LIFE_SECONDS:
                        alive = monotonic()
                        await _show_life(consumer)
                except KafkaError as error:
                    failure = error  # the batch comes first: it is read, and not delivered
        finally:
            if not handing.done():
                handing.cancel()
            await asyncio.gather(handing, return_exceptions=True)
            self.waits = False
        if failure is not None:
            raise failure

    async def _join(self, consumer: AIOKafkaConsumer, batch: Batch) -> None:
        """Adds what has come to partitions that are not busy."""
        if batch.lines >= _MOST_WAITING * self._settings.max_lines:
            return  # nothing is delivered, it seems: what waits in Kafka is no memory here
        partitions = batch.assignment.partitions
        quiet = [place for place, one in partitions.items() if one not in batch.busy]
        if not quiet:
            return
        found = await consumer.getmany(*quiet, timeout_ms=0, max_records=_MOST_JOINING)
        for place, records in found.items():
            if partitions.get(place) is None or not batch.assignment.active:
                continue
            chunk = Chunk(partitions[place], records)
            if batch.closed:
                self._left.append(chunk)  # it is scored already: they go with the next one
            else:
                batch.add(chunk)
                if len(records) >= _MOST_JOINING:
                    batch.busy.add(chunk.partition)


def _has_more(consumer: AIOKafkaConsumer, chunk: Chunk) -> bool:
    """Whether many lines of a partition wait in Kafka, which only has to be asked for them."""
    with suppress(AssertionError):  # it was taken away a moment ago
        end = consumer.last_stable_offset(chunk.partition.place)
        return end is not None and end - chunk.behind > _MOST_JOINING
    return False


async def _show_life(consumer: AIOKafkaConsumer) -> None:
    """Asks for records without taking any."""
    # A rebalance forgets what was paused, so it is paused each time.
    consumer.pause(*consumer.assignment())
    try:
        await consumer.getmany(timeout_ms=0)
    finally:
        consumer.resume(*consumer.paused())
