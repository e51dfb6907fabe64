"""What is read while a batch waits to be scored, on a consumer that is told what comes."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from agent.fetching import Fetching
from agent.metrics import Metrics
from agent.settings import load_settings
from tests.kafka.agents import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from agent.partition import Batch

TOPIC = "logs"
LOUD, QUIET = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


def record(place: TopicPartition, offset: int) -> Any:  # noqa: ANN401 - the client's has no types
    return ConsumerRecord(place.topic, place.partition, offset, 0, 0, None, b"x", None, 0, 1, ())


class Consumer:
    """Gives out what it is fed, once it may."""

    def __init__(self, **_options: object) -> None:
        self.waiting: dict[TopicPartition, list[Any]] = defaultdict(list)
        self.sent: dict[TopicPartition, int] = defaultdict(int)
        self.committed_at: dict[TopicPartition, int | None] = {LOUD: 0, QUIET: 0}
        self.fault: Exception | None = None
        self.ends_fault: Exception | None = None
        self.mine = {LOUD, QUIET}
        self.heard_at: int | None = None
        self.starts = self.faults = 0
        #: How many lines of a partition are in Kafka, and not here yet.
        self.ahead: dict[TopicPartition, int] = defaultdict(int)
        self.fetching: Fetching
        self._coordinator = SimpleNamespace(generation=7)
        self.answers = asyncio.Event()
        self.answers.set()
        self.asks = asyncio.Event()

    def feed(self, place: TopicPartition, count: int) -> None:
        for _ in range(count):
            self.waiting[place].append(record(place, self.sent[place]))
            self.sent[place] += 1

    async def getmany(
        self, *places: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Any]]:
        self.asks.set()
        await self.answers.wait()
        if not any(self.waiting[place] for place in places):
            await asyncio.sleep(min(timeout_ms / 1000, 0.01))
        if not self.waiting[LOUD] and self.fault is not None:
            fault, self.fault = self.fault, None
            self.faults += 1
            raise fault
        found = {}
        for place in places:
            taken, self.waiting[place] = (
                self.waiting[place][:max_records],
                self.waiting[place][max_records:],
            )
            if taken:
                found[place] = taken
        return found

    async def start(self) -> None:
        self.starts += 1

    async def stop(self) -> None: ...

    def subscribe(self, _topics: object, listener: ConsumerRebalanceListener) -> None:
        self._joining = asyncio.create_task(listener.on_partitions_assigned(self.mine))

    async def end_offsets(self, places: Iterable[TopicPartition]) -> dict[Any, int]:
        if self.ends_fault is not None:
            raise self.ends_fault
        return {place: self.sent[place] for place in places}

    async def beginning_offsets(self, places: Iterable[TopicPartition]) -> dict[Any, int]:
        return dict.fromkeys(places, 0)

    async def committed(self, place: TopicPartition) -> int | None:
        return self.committed_at[place]

    async def position(self, place: TopicPartition) -> int:
        return self.sent[place]

    def highwater(self, place: TopicPartition) -> int:
        return self.sent[place] + self.ahead[place]

    last_stable_offset = highwater

    def last_poll_timestamp(self, _place: TopicPartition) -> int | None:
        return self.heard_at

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.committed_at |= offsets

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return {0, 1}

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Everything from there on comes again."""
        self.waiting[place] = [record(place, at) for at in range(offset, self.sent[place])]


class Delivery:
    async def open(self, _places: object) -> None: ...

    async def close(self, _partitions: object, _seconds: float) -> None: ...


class Pipeline:
    """Takes batches as `agent.pipeline.Pipeline` does, when it is told to."""

    def __init__(self) -> None:
        self.given: asyncio.Queue[Batch] = asyncio.Queue()
        self.may_go = asyncio.Event()

    async def submit(self, batch: Batch) -> None:
        self.given.put_nowait(batch)
        await self.may_go.wait()
        self.may_go.clear()
        batch.closed = True


@asynccontextmanager
async def reading(
    monkeypatch: pytest.MonkeyPatch, *settings: str
) -> AsyncIterator[tuple[Consumer, Pipeline]]:
    consumer, pipeline = Consumer(), Pipeline()
    monkeypatch.setattr("agent.consuming.AIOKafkaConsumer", lambda **_: consumer)
    chosen = load_settings(assignments=[f"kafka.topic={TOPIC}", "batch.linger=10ms", *settings])
    fetching = Fetching(chosen.kafka, chosen.batch, Metrics())
    delivery: Any = Delivery()
    consumer.fetching = fetching
    task = asyncio.create_task(fetching.run(delivery, pipeline.submit, lambda: float("inf")))
    try:
        async with asyncio.timeout(20):
            yield consumer, pipeline
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def offsets(batch: Batch) -> dict[int, list[int]]:
    """The offsets of a batch by partition, in the order in which they are scored."""
    found: dict[int, list[int]] = defaultdict(list)
    for chunk in batch.chunks:
        found[chunk.partition.place.partition] += [record.offset for record in chunk.records]
    return dict(found)


async def test_lines_of_a_quiet_partition_join_the_batch_that_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with reading(monkeypatch, "batch.max_lines=10") as (consumer, pipeline):
        consumer.feed(LOUD, 100)
        batch = await pipeline.given.get()
        assert (offsets(batch), batch.full) == ({0: list(range(10))}, True)
        consumer.feed(QUIET, 3)
        await until(lambda: batch.lines >= 13)
        # No more of the loud one: it has had its share.
        assert offsets(batch) == {0: list(range(10)), 1: [0, 1, 2]}
        consumer.feed(QUIET, 1)
        await until(lambda: batch.lines >= 14)
        assert offsets(batch)[1] == [0, 1, 2, 3]
        pipeline.may_go.set()
        assert offsets(await pipeline.given.get()) == {0: list(range(10, 20))}


async def test_a_partition_is_busy_by_what_waits_in_kafka_not_by_what_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with reading(monkeypatch, "batch.max_lines=10") as (consumer, pipeline):
        # The mark of a transaction makes no partition busy.
        consumer.ahead |= {LOUD: 501, QUIET: 1}
        consumer.feed(LOUD, 4)
        consumer.feed(QUIET, 2)
        batch = await pipeline.given.get()
        assert offsets(batch) == {0: [0, 1, 2, 3], 1: [0, 1]}
        assert {partition.place for partition in batch.busy} == {LOUD}


async def test_a_quiet_partition_that_gets_loud_joins_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.gathering._MOST_JOINING", 5)
    async with reading(monkeypatch, "batch.max_lines=10") as (consumer, pipeline):
        consumer.feed(LOUD, 100)
        batch = await pipeline.given.get()
        consumer.feed(QUIET, 50)
        await until(lambda: batch.lines >= 15)
        await asyncio.sleep(0.1)
        assert offsets(batch)[1] == [0, 1, 2, 3, 4]
        pipeline.may_go.set()
        following = offsets(await pipeline.given.get())
        assert following[1] == list(range(5, 5 + len(following[1])))


async def test_lines_that_come_as_a_batch_is_closed_go_with_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with reading(monkeypatch, "batch.max_lines=10") as (consumer, pipeline):
        consumer.feed(LOUD, 10)
        batch = await pipeline.given.get()
        # The client is asked, and answers when the batch is being scored already.
        consumer.asks.clear()
        consumer.answers.clear()
        await consumer.asks.wait()
        consumer.feed(QUIET, 3)
        batch.closed = True
        consumer.answers.set()
        await until(lambda: not consumer.waiting[QUIET])
        assert offsets(batch) == {0: list(range(10))}
        consumer.feed(QUIET, 2)
        pipeline.may_go.set()
        following = await pipeline.given.get()
        # They need no others to make a batch, and those behind them do not overtake them.
        assert offsets(following)[1] in ([0, 1, 2], [0, 1, 2, 3, 4])
        assert following.chunks[0].partition.read == following.chunks[-1].behind


@pytest.mark.parametrize(
    "fault",
    [OffsetOutOfRangeError({QUIET: 0}), NoOffsetForPartitionError(QUIET), IllegalStateError()],
    ids=lambda fault: type(fault).__name__,
)
async def test_lines_that_were_read_before_a_fault_are_read_again(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(monkeypatch, "batch.max_lines=10", "batch.linger=5s") as (
        consumer,
        pipeline,
    ):
        consumer.fault = fault
        consumer.feed(LOUD, 6)
        # They are in no batch when the fault comes; then four more fill one.
        await until(lambda: consumer.faults > 0)
        consumer.feed(LOUD, 4)
        assert offsets(await pipeline.given.get()) == {0: list(range(10))}


@pytest.mark.parametrize(
    ("committed", "start"), [(-5, 0), (900, 0), (7, 7)], ids=["removed", "beyond the end", "there"]
)
async def test_a_committed_offset_that_is_gone_is_replaced_at_once(
    committed: int, start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(monkeypatch, "batch.max_lines=10") as (consumer, pipeline):
        consumer.committed_at[LOUD] = committed
        consumer.feed(LOUD, 20)
        found = await pipeline.given.get()
        (first,) = {chunk.partition.start for chunk in found.chunks}
        assert (first, consumer.committed_at[LOUD]) == (start, start)


@pytest.mark.parametrize(("generation", "first"), [(1, 10), (2, 0)], ids=["new group", "old group"])
async def test_another_that_was_quicker_to_commit_makes_no_group_old(
    generation: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(monkeypatch, "kafka.start_from=latest") as (consumer, pipeline):
        consumer._coordinator.generation = generation
        consumer.mine = {QUIET}
        consumer.committed_at = {LOUD: 5, QUIET: None}
        consumer.feed(QUIET, 10)
        await until(lambda: consumer.committed_at[QUIET] is not None)
        assert consumer.committed_at[QUIET] == first
        consumer.feed(QUIET, 1)
        assert (await pipeline.given.get()).chunks[0].partition.start == first


async def test_a_batch_that_waits_grows_to_twice_its_size_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with reading(monkeypatch, "batch.max_lines=10") as (consumer, pipeline):
        consumer.feed(LOUD, 10)
        batch = await pipeline.given.get()
        for _ in range(30):
            consumer.feed(QUIET, 2)
            await asyncio.sleep(0.03)
        assert 20 <= batch.lines <= 22


async def test_a_client_that_hears_nothing_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.watching._STUCK_SECONDS", 0.2)
    async with reading(monkeypatch) as (consumer, pipeline):
        consumer.feed(LOUD, 1)
        await pipeline.given.get()
        pipeline.may_go.set()
        consumer.heard_at = 1_000
        while consumer.starts < 2:
            await asyncio.sleep(0.05)
            await consumer.fetching.measure_lag()


async def test_without_an_answer_for_one_partition_the_others_are_watched_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.watching._STUCK_SECONDS", 0.2)
    async with reading(monkeypatch) as (consumer, pipeline):
        consumer.feed(LOUD, 1)
        await pipeline.given.get()
        pipeline.may_go.set()
        # One has no leader, so that the client tells nothing of any; lines wait in the other.
        consumer.ends_fault = KafkaTimeoutError()
        consumer.ahead[LOUD] = 100
        consumer.heard_at = int(time.time() * 1000) + 60_000
        await consumer.fetching.measure_lag()
        lag = consumer.fetching._metrics.consumer_lag.labels(TOPIC, 0)
        assert lag._value.get() >= 100
        while consumer.starts < 2:
            await asyncio.sleep(0.05)
            await consumer.fetching.measure_lag()
