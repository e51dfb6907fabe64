"""A client that is cut off while it leaves its group: nothing of it goes on.

On librdkafka's mock cluster, which answers as late as it is told to.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.errors import RebalanceInProgressError

from agent.fetching import Fetching
from agent.metrics import Metrics
from tests.kafka.agents import agent_settings, until
from tests.kafka.mock_cluster import MockCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.partition import Batch


class Delivery:
    """Delivers nothing, and lets partitions go once it may."""

    def __init__(self) -> None:
        self.may_close = asyncio.Event()

    async def open(self, _places: object) -> None: ...

    async def close(self, _partitions: object, _seconds: float) -> None:
        await self.may_close.wait()


class Member:
    """A group's member that reads, on a broker of its own."""

    def __init__(self, cluster: MockCluster, topic: str, folder: Path) -> None:
        settings = agent_settings(cluster.bootstrap_servers, topic, folder)
        self.cluster, self.delivery = cluster, Delivery()
        self.fetching = Fetching(settings.kafka, settings.batch, Metrics())
        self._before = asyncio.all_tasks()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async def submit(_batch: Batch) -> None: ...

        delivery: Any = self.delivery
        await self.fetching.run(delivery, submit, lambda: float("inf"))

    async def is_cut_off(self) -> None:
        """Leaves the group, is cut off at that, and does nothing more."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        assert self.fetching._consumer is not None
        client = self.fetching._consumer._client
        connections = list(client._conns.values())
        assert any(connection.connected() for connection in connections)
        began = asyncio.get_running_loop().time()
        await self.fetching.leave()
        assert asyncio.get_running_loop().time() - began > 1, "it left in time"
        # What it does by itself has ended, so that it does not connect again either.
        running = asyncio.all_tasks() - self._before - {asyncio.current_task()}
        if running:
            _, running = await asyncio.wait(running, timeout=3)
        assert not running
        connections += client._conns.values()
        assert not [connection for connection in connections if connection.connected()]


@pytest.fixture
async def member(topic: str, tmp_path: Path) -> AsyncIterator[Member]:
    cluster = MockCluster(brokers=1)
    cluster.create_topic(topic)
    member = Member(cluster, topic, tmp_path)
    await until(lambda: member.fetching.not_ready() is None)
    yield member
    cluster.close()


async def test_a_client_that_gets_no_answer_as_it_leaves_is_closed(member: Member) -> None:
    member.delivery.may_close.set()
    member.cluster.delay(1, 60_000)
    await member.is_cut_off()


async def test_a_client_that_is_stopped_in_a_rebalance_is_closed(member: Member) -> None:
    """It is a member still, and would say so to the group for as long as the process lives."""
    member.cluster.fail("Heartbeat", RebalanceInProgressError.errno)
    await until(lambda: member.fetching.assignment is None)
    await member.is_cut_off()
