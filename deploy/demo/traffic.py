"""The demo's own traffic: lines into a topic, events out of another."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from crosyslog.errors import BrokerError

#: Lines that are sent before the broker's word on them is awaited.
_IN_FLIGHT = 5_000

#: Events are there as soon as the agent says so; a slow machine gets this long.
_READ_BACK_SECONDS = 30.0


async def send_lines(kafka: str, topic: str, lines: Sequence[bytes]) -> None:
    """Sends lines in their order, so that a line's offset is its place in the log."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=True, linger_ms=5)
    await producer.start()
    try:
        for start in range(0, len(lines), _IN_FLIGHT):
            sent = [
                await producer.send(topic, line, partition=0)
                for line in lines[start : start + _IN_FLIGHT]
            ]
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


class EventReader:
    """Reads the published events back, and hands each on as it arrives.

    Attributes:
        events: those read so far.
        first_at: when the first came, seconds since the epoch.
    """

    def __init__(self, kafka: str, topic: str, show: Callable[[dict[str, Any]], None]) -> None:
        self.events: list[dict[str, Any]] = []
        self.first_at: float | None = None
        self._kafka = kafka
        self._topic = topic
        self._show = show
        self._more = asyncio.Event()

    async def run(self) -> None:
        """Reads until it is cancelled."""
        from aiokafka import AIOKafkaConsumer

        consumer = AIOKafkaConsumer(
            self._topic,
            bootstrap_servers=self._kafka,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        await consumer.start()
        try:
            async for message in consumer:
                event = json.loads(message.value)
                self._show(event)
                if self.first_at is None:
                    self.first_at = time.time()
                self.events.append(event)
                self._more.set()
        finally:
            await consumer.stop()

    async def until(self, expected: int) -> None:
        """Waits until as many events were read as the agent says it published.

        Raises:
            BrokerError: they do not come.
        """
        deadline = time.monotonic() + _READ_BACK_SECONDS
        while len(self.events) < expected:
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the agent published {expected} events and {len(self.events)} of them could "
                    f"be read back from {self._topic}"
                )
            self._more.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), 0.5)
