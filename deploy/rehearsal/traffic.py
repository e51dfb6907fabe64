"""Lines at a steady rate, with storms of alerts and lines that cannot be judged."""

from __future__ import annotations

import asyncio
from itertools import cycle
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

#: How often lines are sent.
_TICK_SECONDS = 0.05


class Traffic:
    """Sends lines to a topic until it is closed.

    Attributes:
        rate: lines a second; may be changed at any time.
        storm: whether every line is an alert.
        sent: how many lines were sent so far.
    """

    def __init__(
        self, servers: str, topic: str, lines: Sequence[bytes], alerts: Sequence[bytes], rate: float
    ) -> None:
        """Prepares it.

        Args:
            servers: of Kafka.
            topic: where lines go, to each partition in turn.
            lines: as they come, again and again.
            alerts: sent in their place in a storm.
            rate: lines a second.
        """
        self.rate = rate
        self.storm = False
        self.sent = 0
        self._servers = servers
        self._topic = topic
        self._lines = cycle(lines)
        self._alerts = cycle(alerts)
        self._poison: list[bytes | None] = []
        self._sending: asyncio.Task[None] | None = None

    def poison(self, values: Sequence[bytes | None]) -> None:
        """Sends values that cannot be judged among the next lines."""
        self._poison += values

    async def __aenter__(self) -> Self:
        """Begins to send."""
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _send(self) -> None:
        from aiokafka import AIOKafkaProducer

        loop = asyncio.get_running_loop()
        async with AIOKafkaProducer(
            bootstrap_servers=self._servers, request_timeout_ms=60_000
        ) as producer:
            owed, last = 0.0, loop.time()
            while True:
                await asyncio.sleep(_TICK_SECONDS)
                now = loop.time()
                owed, last = owed + (now - last) * self.rate, now
                # After a time without a broker, what was not sent is not made up for.
                values = self._next(min(int(owed), int(self.rate)))
                owed -= int(owed)
                acknowledged = [
                    await producer.send(self._topic, value, key=b"key" if value is None else None)
                    for value in values
                ]
                await asyncio.gather(*acknowledged)
                self.sent += len(values)

    def _next(self, count: int) -> list[bytes | None]:
        poison, self._poison = self._poison, []
        source: Iterator[bytes] = self._alerts if self.storm else self._lines
        return [*poison, *(next(source) for _ in range(count))]
