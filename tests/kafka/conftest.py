from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.local_kafka import LocalKafka


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture
def topic() -> str:
    """A name that no other test uses; the test makes the topic with the partitions it needs."""
    return f"test-{uuid4()}"


@pytest.fixture
def own_kafka(request: pytest.FixtureRequest) -> Iterator[LocalKafka]:
    """A broker of the test's own, to be killed and restarted."""
    request.getfixturevalue("java_and_maven")
    with LocalKafka() as broker:
        yield broker
