"""A quiet partition beside flooded ones, and many quiet ones."""

from __future__ import annotations

import asyncio
import re
from statistics import median
from time import time
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.local_kafka import create_topics
from tests.kafka.agents import agent_settings, running, scored, until, value
from tests.kafka.test_agent_process import agent

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import KafkaAddress

#: Lines of the flood, and of each of eleven partitions.
FLOOD = 100_000


async def flood(servers: str, topic: str) -> None:
    """Fills all partitions but the last."""
    async with AIOKafkaProducer(
        bootstrap_servers=servers, max_batch_size=1 << 19, compression_type="lz4"
    ) as producer:
        for partition in range(11):
            batch = producer.create_batch()
            for _ in range(FLOOD):
                if batch.append(key=None, value=b"heartbeat ok", timestamp=None) is None:
                    await producer.send_batch(batch, topic, partition=partition)
                    batch = producer.create_batch()
                    batch.append(key=None, value=b"heartbeat ok", timestamp=None)
            await producer.send_batch(batch, topic, partition=partition)
        await producer.flush()


async def test_a_quiet_partition_s_line_is_out_while_eleven_are_flooded(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    await create_topics(servers, {topic: 12, f"{topic}.anomalies": 12})
    await flood(servers, topic)
    waits: list[float] = []
    # The support knows both lines: nothing of the flood is an anomaly.
    async with (
        agent(topic, servers, tmp_path) as flooded,
        AIOKafkaConsumer(
            f"{topic}.anomalies", bootstrap_servers=servers, isolation_level="read_committed"
        ) as events,
        AIOKafkaProducer(bootstrap_servers=servers) as producer,
    ):
        await flooded.ready()
        await flooded.scored(20_000)
        for _ in range(8):
            sent = time()
            await producer.send_and_wait(topic, b"disk failure", partition=11)
            async with asyncio.timeout(10):
                await events.getone()
            waits.append(time() - sent)
        metrics = (await flooded.get("/metrics"))[1]
        found = re.search(r"^crosyslog_lines_scored_total (\S+)", metrics, re.MULTILINE)
        assert found is not None
        assert float(found[1]) < 11 * FLOOD, "the flood was over before the lines were"
    # The linger is 100 ms; on a machine that does other work, one of them may be late.
    assert median(waits) < 0.1 + 0.2, waits


async def test_quiet_partitions_are_committed_once_an_interval(
    kafka: KafkaAddress, topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    partitions, rounds = 100, 6
    await create_topics(servers, {topic: partitions})
    settings = agent_settings(servers, topic, tmp_path, model__threshold=1.0)
    async with running(settings) as app:
        began = asyncio.get_running_loop().time()
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            for _ in range(rounds):
                for partition in range(partitions):
                    await producer.send(topic, b"heartbeat ok", partition=partition)
                await producer.flush()
                await asyncio.sleep(0.4)
        await until(lambda: scored(app) == partitions * rounds)
        took = asyncio.get_running_loop().time() - began
        transactions = value(app, "crosyslog_transactions_total", {"result": "committed"})
    assert transactions <= partitions * (took + 1)
    assert transactions < partitions * rounds
