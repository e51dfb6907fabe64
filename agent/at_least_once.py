"""At least once: publish, wait for every acknowledgement, then commit."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from agent.delivery import Delivery, PartitionLostError
from agent.publishing import TooLargeError, fitted, send_all, start_producer, stop_producer
from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from aiokafka import AIOKafkaProducer, TopicPartition

    from agent.delivery import Outcome
    from agent.metrics import Metrics
    from agent.setting_parts import KafkaSettings


class AtLeastOnce(Delivery):
    """A crash between the two repeats messages; an event carries the same id then."""

    def __init__(
        self,
        settings: KafkaSettings,
        commit: Callable[[Mapping[TopicPartition, int]], Awaitable[None]],
        metrics: Metrics,
        commit_interval: float,
    ) -> None:
        super().__init__(metrics, commit_interval)
        self._settings = settings
        self._commit = commit
        self._producer: AIOKafkaProducer | None = None

    async def open(self, places: Iterable[TopicPartition]) -> None:
        """Nothing has to be fenced here."""

    async def stop(self) -> None:
        """Closes every producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_producer(producer)

    async def _settle(self, outcomes: Sequence[Outcome]) -> None:
        if any(outcome.messages for outcome in outcomes):
            with self.metrics.time("publish"):
                await self._publish(outcomes)
        with self.metrics.time("commit"):
            await self._commit_all({one.partition.place: one.next_offset for one in outcomes})

    async def _publish(self, outcomes: Sequence[Outcome]) -> None:
        """After a failure all are sent again, by a new producer: only so they stay in order."""
        messages = [message for outcome in outcomes for message in outcome.messages]
        for failures in count():
            try:
                if self._producer is None:
                    self._producer = await start_producer(self._settings)
                await send_all(self._producer, messages, self.largest)
            except (KafkaError, OSError, SettingError) as error:
                await self.stop()
                if isinstance(error, TooLargeError):
                    messages = fitted(messages, error)
                await self.pause("publish", error, failures)
            else:
                return

    async def _commit_all(self, offsets: Mapping[TopicPartition, int]) -> None:
        for failures in count():
            try:
                await self._commit(offsets)
            except (CommitFailedError, IllegalStateError) as error:
                # A rebalance came first: whoever has the partitions now judges these lines again.
                self.metrics.error("commit", error)
                raise PartitionLostError(str(error)) from error
            except (KafkaError, OSError) as error:
                await self.pause("commit", error, failures)
            else:
                return
