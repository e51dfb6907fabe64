"""Stopping a client of the brokers, whatever it does then."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, cast

import pytest
from aiokafka.errors import KafkaConnectionError

from agent.connection import stop_within
from agent.fetching import Fetching
from agent.metrics import Metrics
from agent.settings import load_settings

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer


class _Client:
    closed = False

    async def close(self) -> None:
        self.closed = True


class _Consumer:
    """One that was not started, whose stop does not reach its client."""

    def __init__(self) -> None:
        self._client = _Client()
        self._coordinator = self._fetcher = None

    async def stop(self) -> None:
        raise asyncio.CancelledError


async def test_a_consumer_that_raises_its_own_cancellation_cancels_nobody_else() -> None:
    settings = load_settings(flags={"kafka.topic": "a"})
    fetching = Fetching(settings.kafka, settings.batch, Metrics())
    consumer = _Consumer()
    fetching._consumer = cast("AIOKafkaConsumer", consumer)

    await fetching.leave()

    assert fetching._consumer is None
    assert consumer._client.closed


async def test_a_client_that_does_not_stop_is_given_up() -> None:
    began = monotonic()

    assert not await stop_within(0.05, asyncio.sleep(60))
    assert monotonic() - began < 5


async def test_it_is_known_whether_a_client_stopped() -> None:
    async def fail() -> None:
        raise KafkaConnectionError

    assert await stop_within(5, asyncio.sleep(0))
    assert not await stop_within(5, fail())


async def test_a_cancellation_from_outside_is_passed_on() -> None:
    stopping = asyncio.create_task(stop_within(60, asyncio.sleep(60)))
    await asyncio.sleep(0.01)
    stopping.cancel()

    with pytest.raises(asyncio.CancelledError):
        await stopping
