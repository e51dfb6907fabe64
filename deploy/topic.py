"""Sends a log's lines to a topic, and shows what a topic holds: for trials by hand.

    python -m deploy.topic send spirit-logs app.log
    python -m deploy.topic read spirit-logs.anomalies

Kafka's own `kafka-console-producer.sh` and `kafka-console-consumer.sh` do the same where Kafka is
installed; the jars that the local one runs on lack them.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from crosyslog.errors import BrokerError, CrosyslogError
from crosyslog.lines import read_raw
from crosyslog.terminal import printable
from deploy.kafka_topics import checked_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

#: Lines that are sent before the broker's word on them is awaited.
_IN_FLIGHT = 5_000

#: What is there comes at once; without any of it for so long, the broker is in trouble.
_PATIENCE_SECONDS = 30.0


async def send(servers: str, topic: str, lines: Iterable[bytes]) -> int:
    """Sends lines, those without their line feed, to a topic's partitions as the client deals them.

    Returns:
        How many.

    Raises:
        BrokerError: there is no such topic.
    """
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    async with _ended(AIOKafkaConsumer(bootstrap_servers=servers)) as brokers:
        await _require_topic(brokers, topic, servers)
    count = 0
    waiting = []
    async with _ended(AIOKafkaProducer(bootstrap_servers=servers, linger_ms=5)) as producer:
        for line in lines:
            waiting.append(await producer.send(topic, line.rstrip(b"\r\n")))
            count += 1
            if len(waiting) == _IN_FLIGHT:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
    return count


async def read(servers: str, topic: str) -> list[bytes]:
    """The values of the committed messages that a topic holds now, partition by partition.

    Raises:
        BrokerError: there is no such topic, or what it holds does not come.
    """
    from aiokafka import AIOKafkaConsumer

    found: list[bytes] = []
    # A commit is acknowledged before its mark is written: the end is asked for without regard to
    # transactions, and what is before it is waited for.
    async with _ended(AIOKafkaConsumer(bootstrap_servers=servers)) as whole:
        await _require_topic(whole, topic, servers)
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=servers,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        async with _ended(consumer):
            ends = await whole.end_offsets(consumer.assignment())
            deadline = monotonic() + _PATIENCE_SECONDS
            for place, end in sorted(ends.items()):
                while await consumer.position(place) < end:
                    if monotonic() > deadline:
                        raise BrokerError(f"{servers} gives nothing of {topic!r} any more")
                    for batch in (await consumer.getmany(place, timeout_ms=500)).values():
                        found += [one.value for one in batch if one.value is not None]
                        deadline = monotonic() + _PATIENCE_SECONDS
    return found


async def _require_topic(client: Any, topic: str, servers: str) -> None:  # noqa: ANN401 - aiokafka
    if topic not in await client.topics():
        raise BrokerError(f"there is no topic {topic!r} on {servers}")


@asynccontextmanager
async def _ended(client: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - aiokafka has no types
    """A client from its start to its end, which one that cannot start needs, too."""
    try:
        await client.start()
        yield client
    finally:
        await client.stop()


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Sends or reads, and returns the exit status."""
    parser = _OneLineParser(
        prog="python -m deploy.topic",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("send", "read"))
    parser.add_argument("topic", help="its name")
    parser.add_argument("log", nargs="?", type=Path, help="to send: plain, gzip or zstd")
    parser.add_argument(
        "--bootstrap-servers",
        default=os.environ.get("CROSYSLOG_KAFKA__BOOTSTRAP_SERVERS", "localhost:9092"),
        help="by default those of CROSYSLOG_KAFKA__BOOTSTRAP_SERVERS, else localhost:9092",
    )
    given = parser.parse_args(arguments)
    if (given.what == "send") != (given.log is not None):
        parser.error("send takes a topic and a log, read a topic alone")
    # What goes wrong is said once, by us.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        _run(given.what, checked_servers(given.bootstrap_servers), given.topic, given.log)
    except BrokenPipeError:
        # Whoever reads has read enough, and nothing is left to be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except CrosyslogError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _run(what: str, servers: str, topic: str, log: Path | None) -> None:
    from aiokafka.errors import KafkaError

    try:
        if log is not None:
            lines = chain.from_iterable(read_raw(log, 100_000))
            print(f"{asyncio.run(send(servers, topic, lines)):,} lines sent to {topic}")
            return
        for value in asyncio.run(read(servers, topic)):
            text = value.decode(errors="replace")
            print(printable(text) if sys.stdout.isatty() else text)
    except KafkaError as error:
        raise BrokerError(
            f"cannot {what} at {servers} ({type(error).__name__}): does a broker run there? name "
            "another with --bootstrap-servers HOST:PORT"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
