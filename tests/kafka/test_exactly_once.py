"""Exactly once, whatever another owner, a failure, or an agent that wakes up too late does."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from agent.delivery import Outcome, PartitionLostError
from agent.exactly_once import ExactlyOnce
from agent.metrics import Metrics
from agent.partition import Partition
from agent.publishing import Message, start_producer
from deploy.local_kafka import create_topics
from tests.kafka.agents import (
    PATIENCE_SECONDS,
    agent_settings,
    committed,
    messages,
    produce,
    published,
    running,
    scored,
    some_lines,
    until,
    value,
)
from tests.kafka.test_agent_process import agent

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.setting_parts import KafkaSettings
    from tests.conftest import KafkaAddress


class Owner:
    """An owner of the first partition, as far as delivery goes."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.metrics = Metrics()
        self.delivery = ExactlyOnce(settings, self._committed, self.metrics, 0.2)
        self.place = TopicPartition(settings.resolved_topic, 0)

    async def begin(self, start: int) -> Partition:
        await self.delivery.open([self.place])
        partition = Partition(self.place, start)
        partition.begin(start)
        return partition

    def outcome(self, partition: Partition, *names: str) -> Outcome:
        """Messages of so many lines."""
        sent = [
            Message(name, f"{self.place.topic}.anomalies", 0, None, name.encode()) for name in names
        ]
        return Outcome(partition, sent, partition.committed + max(len(names), 1))

    async def _committed(self, _: TopicPartition) -> int | None:
        found = await committed(
            self._settings.bootstrap_servers,
            self._settings.resolved_group,
            self._settings.resolved_topic,
        )
        return 0 if found is None else found


@pytest.fixture
async def settings(kafka: KafkaAddress, topic: str, tmp_path: Path) -> KafkaSettings:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1, f"{topic}.anomalies": 1})
    return agent_settings(servers, topic, tmp_path).kafka


async def sent(settings: KafkaSettings) -> list[bytes]:
    found = await messages(settings.bootstrap_servers, f"{settings.resolved_topic}.anomalies")
    return [message.value for message in found]


async def test_the_next_owner_fences_the_one_before(settings: KafkaSettings) -> None:
    old, new = Owner(settings), Owner(settings)
    before = await old.begin(0)
    await old.delivery.deliver([old.outcome(before, "a")])
    after = await new.begin(1)
    with pytest.raises(PartitionLostError):
        await old.delivery.deliver([old.outcome(before, "b")])
    await new.delivery.deliver([new.outcome(after, "b")])
    for owner in (old, new):
        await owner.delivery.stop()
    assert await sent(settings) == [b"a", b"b"]
    labels = {"result": "fenced"}
    assert old.metrics.registry.get_sample_value("crosyslog_transactions_total", labels) == 1


class Cut:
    """Lets a transaction fail once, before its commit or after it."""

    def __init__(self, when: str) -> None:
        self._when = when

    def into(self, delivery: ExactlyOnce) -> None:
        (producer,) = delivery._producers.values()
        commit = producer.commit_transaction

        async def cut_commit() -> Any:  # noqa: ANN401 - as aiokafka has it
            if self._when == "after":
                await commit()
            raise KafkaConnectionError("the connection was cut")

        producer.commit_transaction = cut_commit


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_transaction_of_unknown_outcome_is_looked_up(
    settings: KafkaSettings, when: str
) -> None:
    owner = Owner(settings)
    partition = await owner.begin(0)
    Cut(when).into(owner.delivery)
    await owner.delivery.deliver([owner.outcome(partition, "a", "b")])
    assert partition.committed == partition.delivered == 2
    await owner.delivery.deliver([owner.outcome(partition, "c")])
    await owner.delivery.stop()
    assert await sent(settings) == [b"a", b"b", b"c"]


async def test_an_owner_that_comes_back_after_another_one_publishes_nothing(
    settings: KafkaSettings,
) -> None:
    old, new = Owner(settings), Owner(settings)
    before = await old.begin(0)
    await old.delivery.deliver([old.outcome(before, "a")])
    Cut("before").into(old.delivery)
    after = await new.begin(1)
    await new.delivery.deliver([new.outcome(after, "b")])
    await new.delivery.deliver([new.outcome(after, "c")])
    # Its producer fails, and the new one that it starts finds that somebody was here.
    with pytest.raises(PartitionLostError):
        await old.delivery.deliver([old.outcome(before, "b")])
    for owner in (old, new):
        await owner.delivery.stop()
    assert await sent(settings) == [b"a", b"b", b"c"]


async def test_lines_that_come_to_nothing_are_committed_once_an_interval(
    settings: KafkaSettings,
) -> None:
    owner = Owner(settings)
    partition = await owner.begin(0)
    result = {"result": "committed"}

    def transactions() -> float:
        name = "crosyslog_transactions_total"
        return owner.metrics.registry.get_sample_value(name, result) or 0.0

    def lost(error: PartitionLostError) -> None:
        pytest.fail(str(error))

    running_delivery = asyncio.create_task(owner.delivery.run(lost))
    for number in range(1, 51):
        await owner.delivery.deliver([Outcome(partition, (), number)])
        await asyncio.sleep(0.01)
    assert partition.delivered == 50
    await until(lambda: partition.committed == 50)
    assert 1 <= transactions() <= 8
    running_delivery.cancel()
    await owner.delivery.deliver([Outcome(partition, (), 60)])
    await owner.delivery.close([partition], 5)
    assert partition.committed == 60
    await owner.delivery.stop()
    where = (settings.bootstrap_servers, settings.resolved_group, settings.resolved_topic)
    assert await committed(*where) == 60


async def test_a_delivery_that_is_given_up_leaves_nothing_open(settings: KafkaSettings) -> None:
    owner = Owner(settings)
    partition = await owner.begin(0)
    (producer,) = owner.delivery._producers.values()

    async def never() -> None:
        await asyncio.Event().wait()

    producer.commit_transaction = never
    giving_up = asyncio.create_task(owner.delivery.deliver([owner.outcome(partition, "a")]))
    await asyncio.sleep(0.5)
    giving_up.cancel()
    await asyncio.gather(giving_up, return_exceptions=True)
    # Readers are not held back by it, and the line is delivered by whoever has it next.
    assert await sent(settings) == []
    again = await owner.begin(0)
    await owner.delivery.deliver([owner.outcome(again, "a")])
    assert await sent(settings) == [b"a"]
    await owner.delivery.stop()


async def test_a_zombie_publishes_nothing_more(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    """An agent that is stopped for longer than its session, in the middle of its work."""
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    lines = some_lines(12) * 50
    options = (topic, servers, tmp_path, "batch.max_lines=5", "model.threshold=0")
    async with agent(*options) as zombie:
        await zombie.ready()
        await produce(servers, topic, lines)
        await zombie.scored(60)
        zombie.process.send_signal(signal.SIGSTOP)
        try:
            async with agent(*options) as heir:
                await heir.ready()
                await heir.caught_up(topic)
                zombie.process.send_signal(signal.SIGCONT)
                await produce(servers, topic, lines)
                # Whichever of the two has the partition now, the lines are judged once.
                async with asyncio.timeout(60):
                    while len(await published(servers, f"{topic}.anomalies")) < 2 * len(lines):  # noqa: ASYNC110
                        await asyncio.sleep(0.5)
        finally:
            zombie.process.send_signal(signal.SIGCONT)
    found = [event["source"]["offset"] for event in await published(servers, f"{topic}.anomalies")]
    assert found == sorted(set(found))
    assert len(found) == 2 * len(lines)


async def until_committed(kafka: KafkaSettings, offset: int) -> None:
    """Waits until the group has committed the topic's first partition up to an offset."""
    where = (kafka.bootstrap_servers, kafka.resolved_group, kafka.resolved_topic)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await committed(*where) != offset:  # noqa: ASYNC110 - the brokers are asked
            await asyncio.sleep(0.1)


class Held:
    """Lets attempts to deliver wait until they may go, and counts those that follow a failure."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits, self.may_go = asyncio.Event(), asyncio.Event()
        self.resumed = 0
        attempt, resume = ExactlyOnce._attempt, ExactlyOnce._resumed

        async def held_attempt(*arguments: Any) -> None:  # noqa: ANN401 - as it is called
            self.waits.set()
            await self.may_go.wait()
            await attempt(*arguments)

        async def counted_resume(*arguments: Any) -> bool:  # noqa: ANN401 - as it is called
            self.resumed += 1
            return await resume(*arguments)

        monkeypatch.setattr(ExactlyOnce, "_attempt", held_attempt)
        monkeypatch.setattr(ExactlyOnce, "_resumed", counted_resume)


async def test_nothing_follows_a_batch_that_is_lost_while_the_group_takes_its_partition_back(
    kafka: KafkaAddress, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offset of the one behind it would be committed, and nobody would judge its lines."""
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    settings = agent_settings(
        servers, topic, tmp_path, kafka__session_timeout="12s", delivery__commit_interval="60s"
    )
    held = Held(monkeypatch)
    async with running(settings) as loser:
        # Of these, the offset is to be committed when the partition is given up.
        await produce(servers, topic, [b"heartbeat ok"] * 10)
        await until(lambda: scored(loser) == 10)
        await produce(servers, topic, [b"disk failure"] * 20)
        await held.waits.wait()
        await produce(servers, topic, [b"disk failure"] * 30)
        await until(lambda: value(loser, "crosyslog_lines_received_total") == 60)
        # As an agent does that has been given the partition.
        group = settings.kafka.resolved_group
        owner = await start_producer(settings.kafka, transactional_id=f"{group}-{topic}-0")
        await owner.stop()

        async def let_go() -> None:
            await until(lambda: loser.not_ready() == "no partitions are assigned")
            held.may_go.set()

        letting_go = asyncio.create_task(let_go())
        async with running(settings):
            await letting_go
            await until_committed(settings.kafka, 60)
    found = [event["source"]["offset"] for event in await published(servers, f"{topic}.anomalies")]
    assert found == list(range(10, 60))
    # To start a producer for what is lost would fence the owner in turn.
    assert held.resumed == 0


async def test_what_is_in_flight_ends_with_a_client_that_is_stopped_in_a_rebalance(
    kafka: KafkaAddress, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it is delivered beside the same lines, which the next client has read again."""
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    settings = agent_settings(
        servers, topic, tmp_path, model__threshold=0, kafka__session_timeout="30s"
    )
    held = Held(monkeypatch)
    async with running(settings) as app:
        await produce(servers, topic, some_lines(20))
        await held.waits.wait()
        await produce(servers, topic, some_lines(30))
        await until(lambda: value(app, "crosyslog_lines_received_total") == 50)
        fetching = app._fetching
        assert fetching is not None
        taking_back = asyncio.create_task(fetching.revoked())
        await until(lambda: app.not_ready() == "no partitions are assigned")
        # As the client does when it has to stop before the lines in flight are delivered.
        taking_back.cancel()
        await asyncio.gather(taking_back, return_exceptions=True)
        fetching.lost(KafkaError("the client is made anew"))
        await until(lambda: app.not_ready() is None)
        held.may_go.set()
        await until_committed(settings.kafka, 50)
    found = [event["source"]["offset"] for event in await published(servers, f"{topic}.anomalies")]
    assert found == list(range(50))


async def test_partitions_that_come_while_the_agent_leaves_are_not_begun_with(
    kafka: KafkaAddress, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is stopped while it joins is given some all the same, and others have them."""
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 1})
    place = TopicPartition(topic, 0)
    stop, begin = AIOKafkaConsumer.stop, ExactlyOnce.open
    begun: list[bool] = []
    async with running(agent_settings(servers, topic, tmp_path)) as app:
        fetching = app._fetching
        assert fetching is not None

        async def stop_late(consumer: AIOKafkaConsumer) -> None:
            await stop(consumer)
            await fetching.assigned({place})

        async def watched_begin(delivery: ExactlyOnce, places: Iterable[TopicPartition]) -> None:
            consumer = fetching._consumer
            assert consumer is not None
            begun.append(set(places) <= consumer.assignment())
            await begin(delivery, places)

        monkeypatch.setattr(AIOKafkaConsumer, "stop", stop_late)
        monkeypatch.setattr(ExactlyOnce, "open", watched_begin)
        fetching.lost(KafkaError("another agent has it"))
        await until(lambda: bool(begun) and app.not_ready() is None)
        assert all(begun)


async def test_dead_letters_are_published_with_the_events_once(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 2})
    lines: list[bytes | None] = [*some_lines(30), None, b"x" * 2001, *some_lines(30, seed=1)]
    await produce(servers, topic, lines)
    settings = agent_settings(
        servers, topic, tmp_path, model__threshold=0, batch__max_line_bytes=2000
    )
    async with running(settings) as app:
        await until(lambda: scored(app) == 60)
        for reason in ("null", "oversized"):
            labels = {"reason": reason}
            assert value(app, "crosyslog_dead_letters_total", labels) == 1
        assert value(app, "crosyslog_transactions_total", {"result": "committed"}) >= 1
    events = await published(servers, f"{topic}.anomalies")
    assert [event["source"]["offset"] for event in events] == [*range(30), *range(32, 62)]
    dead = await messages(servers, f"{topic}.dlq")
    assert [message.value for message in dead] == [None, b"x" * 2001]
    assert [message.key for message in dead] == [b"key", b"key"]
    headers = [dict(message.headers) for message in dead]
    assert [header["crosyslog.offset"] for header in headers] == [b"30", b"31"]
    assert [header["crosyslog.reason"] for header in headers] == [b"null", b"oversized"]


async def test_a_broker_that_refuses_is_tried_again(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = iter([KafkaError("no rights"), OSError("no route")])

    async def refuse(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as it is called
        for refusal in refusals:
            raise refusal
        return await start_producer(*arguments, **options)

    owner = Owner(settings)
    partition = await owner.begin(0)
    await owner.delivery.stop()
    monkeypatch.setattr("agent.exactly_once.start_producer", refuse)
    await owner.delivery.deliver([owner.outcome(partition, "a")])
    await owner.delivery.stop()
    assert await sent(settings) == [b"a"]
