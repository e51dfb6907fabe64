"""Faults of brokers, one each, survived without a restart: nothing is lost.

On librdkafka's mock cluster, at least once; what is exactly once is tested on a real broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from aiokafka import errors

from agent.app import load_judge
from agent.judging import Lines
from tests.kafka.agents import (
    agent_settings,
    all_scored,
    committed,
    load_fake,
    produce,
    published,
    running,
    some_lines,
    until,
)
from tests.kafka.mock_cluster import MockCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from agent.app import App

#: That are sent at once.
LINES = 200

#: Errors after which a client is to try again, by the requests that Kafka's protocol gives them.
RETRIABLE = {
    "Produce": [
        errors.CorruptRecordException, errors.UnknownTopicOrPartitionError,
        errors.LeaderNotAvailableError, errors.NotLeaderForPartitionError,
        errors.RequestTimedOutError, errors.NotEnoughReplicasError,
        errors.NotEnoughReplicasAfterAppendError, errors.KafkaStorageError,
    ],
    "Fetch": [
        errors.UnknownTopicOrPartitionError, errors.NotLeaderForPartitionError,
        errors.ReplicaNotAvailableError, errors.KafkaStorageError,
    ],
    "ListOffsets": [
        errors.UnknownTopicOrPartitionError, errors.NotLeaderForPartitionError,
        errors.LeaderNotAvailableError, errors.KafkaStorageError,
    ],
    "OffsetCommit": [
        errors.RequestTimedOutError, errors.GroupLoadInProgressError,
        errors.GroupCoordinatorNotAvailableError, errors.NotCoordinatorForGroupError,
        errors.RebalanceInProgressError,
    ],
    "OffsetFetch": [errors.GroupLoadInProgressError, errors.NotCoordinatorForGroupError],
    "FindCoordinator": [errors.GroupCoordinatorNotAvailableError],
    "JoinGroup": [
        errors.GroupLoadInProgressError, errors.GroupCoordinatorNotAvailableError,
        errors.NotCoordinatorForGroupError, errors.UnknownMemberIdError,
    ],
    "SyncGroup": [
        errors.GroupCoordinatorNotAvailableError, errors.NotCoordinatorForGroupError,
        errors.UnknownMemberIdError, errors.IllegalGenerationError, errors.RebalanceInProgressError,
    ],
    "Heartbeat": [
        errors.GroupCoordinatorNotAvailableError, errors.NotCoordinatorForGroupError,
        errors.UnknownMemberIdError, errors.IllegalGenerationError, errors.RebalanceInProgressError,
    ],
    "InitProducerId": [
        errors.GroupLoadInProgressError, errors.GroupCoordinatorNotAvailableError,
        errors.NotCoordinatorForGroupError,
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[MockCluster]:
    cluster = MockCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(shared: MockCluster, topic: str) -> Iterator[MockCluster]:
    """Three brokers, the first of which leads and coordinates all that is the test's."""
    for name in (topic, f"{topic}.anomalies", f"{topic}.dlq"):
        shared.create_topic(name)
        shared.move_leader(name, 1)
    shared.move_coordinator(f"crosyslog-{topic}", 1)
    yield shared
    shared.recover()
    for broker in (1, 2, 3):
        shared.start_broker(broker)
        shared.delay(broker, 0)


class Trial:
    """An agent beside a fault, and what comes of its lines."""

    def __init__(self, cluster: MockCluster, topic: str, folder: Path) -> None:
        self.cluster, self.topic = cluster, topic
        self._servers = cluster.bootstrap_servers
        self._settings = agent_settings(
            self._servers, topic, folder,
            delivery__guarantee="at-least-once", delivery__commit_interval="200ms",
        )  # fmt: skip
        self._lines, self._sent = some_lines(2 * LINES), 0

    def agent(self) -> AbstractAsyncContextManager[App]:
        return running(self._settings)

    async def send(self) -> None:
        """Some more lines."""
        lines = self._lines[self._sent : self._sent + LINES]
        await produce(self._servers, self.topic, lines)
        self._sent += LINES

    async def delivered(self, app: App) -> None:
        """Waits until all that was sent is delivered, by an agent that has not been restarted."""
        await until(lambda: all_scored(app, self._sent))

    async def check(self) -> None:
        """Nothing is lost, all is in order, and the group will not read it again."""
        events = await published(self._servers, self.topic + ".anomalies")
        offsets = [event["source"]["offset"] for event in events]
        firsts = list(dict.fromkeys(offsets))
        assert firsts == sorted(firsts)
        assert firsts == self._expected()
        assert await committed(self._servers, f"crosyslog-{self.topic}", self.topic) == self._sent

    def _expected(self) -> list[int]:
        """The offsets of the lines that are anomalous."""
        values = pl.Series(self._lines[: self._sent], dtype=pl.Binary)
        offsets = np.arange(self._sent)
        lines = Lines(self.topic, values, np.zeros_like(offsets), offsets, offsets >= 0)
        judged = load_judge(self._settings, load_fake).judge.judge(lines, {})
        assert 20 < len(judged.rows) < self._sent
        return judged.rows


@pytest.fixture
def trial(cluster: MockCluster, topic: str, tmp_path: Path) -> Trial:
    return Trial(cluster, topic, tmp_path)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        pytest.param(name, error, id=f"{name}-{error.__name__}")
        for name, some in RETRIABLE.items()
        for error in some
    ],
)
async def test_a_request_that_is_refused_for_now_is_made_again(
    request_: str, error: type[errors.BrokerResponseError], trial: Trial
) -> None:
    await trial.send()
    before = trial.cluster.asked(request_)
    trial.cluster.fail(request_, error.errno, error.errno)
    async with trial.agent() as app:
        await trial.delivered(app)
        await until(lambda: trial.cluster.asked(request_) > before + 2)
    await trial.check()


@pytest.mark.parametrize(
    "error", [errors.LeaderNotAvailableError, errors.UnknownTopicOrPartitionError]
)
async def test_topics_that_are_not_known_for_a_while(
    error: type[errors.BrokerResponseError], trial: Trial
) -> None:
    await trial.send()
    async with trial.agent() as app:
        await trial.delivered(app)
        topics = (trial.topic, f"{trial.topic}.anomalies")
        for name in topics:
            trial.cluster.fail_metadata(name, error.errno)
        # So that it asks at once what has become of the topics.
        before = trial.cluster.asked("Metadata")
        trial.cluster.fail("Fetch", errors.NotLeaderForPartitionError.errno)
        await until(lambda: trial.cluster.asked("Metadata") > before + 2)
        for name in topics:
            trial.cluster.fail_metadata(name, 0)
        await trial.send()
        await trial.delivered(app)
    await trial.check()


@pytest.mark.parametrize("what", ["what is read", "events"])
async def test_a_leader_that_moves(what: str, trial: Trial) -> None:
    moving = trial.topic if what == "what is read" else f"{trial.topic}.anomalies"
    await trial.send()
    async with trial.agent() as app:
        await trial.delivered(app)
        trial.cluster.move_leader(moving, 2)
        await trial.send()
        await trial.delivered(app)
    await trial.check()


async def test_a_coordinator_that_moves(trial: Trial) -> None:
    await trial.send()
    async with trial.agent() as app:
        await trial.delivered(app)
        trial.cluster.move_coordinator(f"crosyslog-{trial.topic}", 2)
        await trial.send()
        await trial.delivered(app)
    await trial.check()


async def test_answers_that_take_two_seconds(trial: Trial) -> None:
    await trial.send()
    async with trial.agent() as app:
        await trial.delivered(app)
        trial.cluster.delay(1, 2_000)
        await trial.send()
        await trial.delivered(app)
        trial.cluster.delay(1, 0)
    await trial.check()


async def test_a_broker_that_is_lost_and_comes_back(trial: Trial) -> None:
    """The one that leads all partitions and coordinates the group."""
    await trial.send()
    async with trial.agent() as app:
        await trial.delivered(app)
        trial.cluster.stop_broker(1)
        await until(lambda: app.not_ready() is not None)
        trial.cluster.start_broker(1)
        await trial.send()
        await trial.delivered(app)
        await until(lambda: app.not_ready() is None)
    await trial.check()


async def test_a_broker_that_stays_lost(trial: Trial) -> None:
    """The others take over what it led."""
    await trial.send()
    async with trial.agent() as app:
        await trial.delivered(app)
        trial.cluster.stop_broker(1)
        for name in (trial.topic, f"{trial.topic}.anomalies", f"{trial.topic}.dlq"):
            trial.cluster.move_leader(name, 2)
        trial.cluster.move_coordinator(f"crosyslog-{trial.topic}", 3)
        await trial.send()
        await trial.delivered(app)
    await trial.check()
