"""Commits at times: they end with the partitions that they are for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiokafka import TopicPartition

from agent.delivery import Delivery, Outcome, PartitionLostError
from agent.metrics import Metrics
from agent.partition import Partition
from tests.kafka.agents import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Commits(Delivery):
    """Commits when it may; notes what it began and what it did."""

    def __init__(self) -> None:
        super().__init__(Metrics(), 0.02)
        self.may = asyncio.Event()
        self.began: list[int] = []
        self.done: list[int] = []
        self.lost = False

    async def open(self, places: Iterable[TopicPartition]) -> None: ...

    async def _settle(self, outcomes: Sequence[Outcome]) -> None:
        self.began += [outcome.next_offset for outcome in outcomes]
        if self.lost:
            raise PartitionLostError("another has it")
        await self.may.wait()
        self.done += [outcome.next_offset for outcome in outcomes]


async def until_begun(delivery: Commits) -> None:
    async with asyncio.timeout(10):
        await until(lambda: bool(delivery.began))


@pytest.mark.parametrize("seconds", [0.0, 0.05])
async def test_a_commit_that_hangs_ends_with_the_partition(seconds: float) -> None:
    delivery, partition = Commits(), Partition(TopicPartition("logs", 0), 0)
    told: list[Exception] = []
    running = asyncio.create_task(delivery.run(told.append))
    await delivery.deliver([Outcome(partition, (), 500)])
    await until_begun(delivery)

    await delivery.close([partition], seconds)
    delivery.may.set()
    # What another owner does meanwhile is not undone, and the next assignment is served.
    following = Partition(TopicPartition("logs", 0), 10_000)
    await delivery.deliver([Outcome(following, (), 10_400)])
    async with asyncio.timeout(10):
        await until(lambda: bool(delivery.done))
    assert set(delivery.done) == {10_400}
    assert told == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_partition_that_another_has_is_told_of() -> None:
    delivery, partition = Commits(), Partition(TopicPartition("logs", 0), 0)
    delivery.lost = True
    told: list[Exception] = []
    running = asyncio.create_task(delivery.run(told.append))
    await delivery.deliver([Outcome(partition, (), 500)])
    await until_begun(delivery)
    await asyncio.sleep(0.02)
    assert "another has it" in str(told[0])
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
