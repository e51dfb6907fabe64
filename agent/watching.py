"""How far reading is behind, and whether the client that reads has got stuck."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic, time
from typing import TYPE_CHECKING

from aiokafka.errors import IllegalStateError, KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka import AIOKafkaConsumer

    from agent.gathering import Gathering
    from agent.metrics import Metrics
    from agent.partition import Assignment, Partition

#: For the ends of the partitions, which are asked for each second.
_ENDS_SECONDS = 5.0

#: A client that fetches nothing for this long, although there are lines, is made anew: after some
#: broken connections it never fetches again.
_STUCK_SECONDS = 60.0


class Watching:
    """Watches the client that lines are gathered from."""

    def __init__(self, gathering: Gathering, metrics: Metrics) -> None:
        self._gathering = gathering
        self._metrics = metrics
        self._measured: Assignment | None = None

    def silence(self, consumer: AIOKafkaConsumer, assignment: Assignment) -> float:
        """For how many seconds lines have been waited for without an answer of any broker."""
        if self._gathering.idle_since is None or not assignment.partitions:
            return 0.0
        waited = monotonic() - self._gathering.idle_since
        with suppress(AssertionError, IllegalStateError):
            heard = max(consumer.last_poll_timestamp(tp) or 0 for tp in assignment.partitions)
            return min(waited, time() - heard / 1000) if heard else waited
        return 0.0

    async def measure_lag(
        self, consumer: AIOKafkaConsumer | None, current: Callable[[], Assignment | None]
    ) -> str | None:
        """Sets the lag of each partition: from what is delivered to the end of its log.

        Args:
            consumer: that reads; none while there is none.
            current: the partitions that it has now; they may change meanwhile.

        Returns:
            Why the client is to be made anew; none if it is not.
        """
        assignment = current()
        if assignment is not self._measured:
            # What another agent has by now is not ours to report.
            self._metrics.consumer_lag.clear()
            self._measured = assignment
        if assignment is None or consumer is None or not assignment.active:
            return None
        unread = 0
        for partition, end in (await _ends(consumer, assignment)).items():
            tp, position = partition.place, partition.delivered
            try:
                if position == partition.read:
                    # Nothing is in flight, so the position is behind what holds no lines, too:
                    # the marks of transactions.
                    position = max(position, await consumer.position(tp))
            except (AssertionError, KafkaError):
                return None
            if assignment is not current():
                return None
            unread += max(0, end - max(partition.read, position))
            self._metrics.consumer_lag.labels(tp.topic, tp.partition).set(max(0, end - position))
        stuck = None
        if not unread or self._gathering.waits:
            self._gathering.fetched_at = monotonic()
        elif monotonic() - self._gathering.fetched_at > _STUCK_SECONDS:
            self._gathering.fetched_at = monotonic()
            stuck = f"nothing was fetched for {_STUCK_SECONDS:.0f} s, {unread} lines wait"
        if self.silence(consumer, assignment) >= _STUCK_SECONDS:
            stuck = f"no broker has answered for {_STUCK_SECONDS:.0f} s"
        return stuck


async def _ends(consumer: AIOKafkaConsumer, assignment: Assignment) -> dict[Partition, int]:
    """How far each partition can be read, as far as brokers tell.

    They are asked: what came with the last lines is old where none are fetched. Where one partition
    has no leader, the client gives no answer for any, and what came last has to do. Behind a
    transaction that is open, nothing can be read yet.
    """
    if not assignment.partitions:
        return {}
    try:
        async with asyncio.timeout(_ENDS_SECONDS):
            ends = await consumer.end_offsets(list(assignment.partitions))
    except (KafkaError, OSError):
        ends = {}
        with suppress(AssertionError):  # they were taken away a moment ago
            ends = {tp: consumer.last_stable_offset(tp) for tp in assignment.partitions}
    return {assignment.partitions[tp]: end for tp, end in ends.items() if end is not None}
