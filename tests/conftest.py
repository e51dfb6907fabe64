"""What tests of several folders share: a real Kafka, and the rule for tools that are absent."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import pytest

from crosyslog.encoder import Encoder, load_encoder
from crosyslog.errors import ToolMissingError
from deploy.kafka_jars import find_java, kafka_jars
from deploy.local_kafka import LocalKafka


def absent(tool: str, reason: str) -> NoReturn:
    """Skips the test on a laptop that lacks a tool; fails it in CI, which must have them all."""
    message = f"without {tool}: {reason}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A command that a test runs sends the log to standard error as it is then: not for ever."""
    root, client = logging.getLogger(), logging.getLogger("aiokafka")
    before, level, client_level = list(root.handlers), root.level, client.level
    yield
    client.setLevel(client_level)
    for handler in list(root.handlers):
        if type(handler) is logging.StreamHandler and handler not in before:
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def java_and_maven() -> None:
    """All that a local Kafka needs, its jars included."""
    try:
        find_java()
        kafka_jars()
    except ToolMissingError as error:
        absent("Java and Maven", str(error))


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The encoder that ships, on the CPU: it takes ten seconds to load, so all tests share it."""
    return load_encoder(device="cpu")


@dataclass(frozen=True)
class KafkaAddress:
    """Where clients find the Kafka that all tests share: use topics and groups of your own."""

    bootstrap_servers: str


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[KafkaAddress]:
    """One Kafka for the whole session: that of CROSYSLOG_TEST_KAFKA, else a local one."""
    if running := os.environ.get("CROSYSLOG_TEST_KAFKA"):
        yield KafkaAddress(running)
        return
    request.getfixturevalue("java_and_maven")
    with LocalKafka() as broker:
        yield KafkaAddress(broker.bootstrap_servers)
