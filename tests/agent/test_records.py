"""Records without the client's copy: the same content, for those consumers alone that ask."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from agent.records import as_sent

if TYPE_CHECKING:
    from collections.abc import Callable

SENT = [
    (None, b"a line", []),
    (b"key", b"\xff", [("trace", b"7"), ("empty", None)]),
    (b"", None, [("trace", b"7"), ("trace", b"8")]),
]


PLACE = TopicPartition("logs", 3)


def unpacked(deserializer: Callable[[bytes], Any] | None) -> fetcher.PartitionRecords:
    """The records of a batch, as the client's fetcher makes them."""
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=1_000,
    )  # fmt: skip
    for offset, (key, value, headers) in enumerate(SENT):
        builder.append(offset, 1_700_000_000_000 + offset, key, value, headers)
    batch = MemoryRecords(bytes(builder.build()))
    return fetcher.PartitionRecords(PLACE, batch, [], 0, None, deserializer, True, 1)


def records(deserializer: Callable[[bytes], Any] | None) -> list[Any]:
    """What a consumer with this `value_deserializer` gets."""
    return list(unpacked(deserializer))


def test_records_are_not_copied_and_have_the_same_content() -> None:
    mine, usual = records(as_sent), records(None)
    assert not any(isinstance(record, ConsumerRecord) for record in mine)
    content = attrgetter("offset", "timestamp", "key", "value")
    assert list(map(content, mine)) == list(map(content, usual))
    assert [list(one.headers) for one in mine] == [list(one.headers) for one in usual]
    assert [(one.key, one.value, list(one.headers)) for one in mine] == SENT


@pytest.mark.parametrize("deserializer", [None, repr], ids=["none", "their own"])
def test_another_consumer_of_this_process_gets_what_it_got(
    deserializer: Callable[[bytes], Any] | None,
) -> None:
    found = records(deserializer)
    assert all(isinstance(record, ConsumerRecord) for record in found)
    assert {(record.topic, record.partition) for record in found} == {("logs", 3)}
    assert found[0].value == (b"a line" if deserializer is None else repr(b"a line"))


class Assignment:
    """Of one partition, at the start of which it is read."""

    active = True

    def __init__(self) -> None:
        self.paused, self.position = False, 0

    def state_value(self, _place: TopicPartition) -> Assignment:
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


@pytest.mark.parametrize("most", [1, 2, 3, 4, None])
def test_records_come_in_portions_and_the_position_follows(most: int | None) -> None:
    assignment = Assignment()
    result = fetcher.FetchResult(
        PLACE, assignment=assignment, partition_records=unpacked(as_sent), backoff=0
    )
    found: list[int] = []
    while result.has_more():
        portion = [record.offset for record in result.getall(most)]
        assert len(portion) <= (most or len(SENT))
        found += portion
        assert assignment.position == len(found)
    assert found == [0, 1, 2]


def test_nothing_is_taken_while_the_partition_is_paused_or_elsewhere() -> None:
    for change in ({"paused": True}, {"position": 7}, {"active": False}):
        assignment = Assignment()
        vars(assignment).update(change)
        result = fetcher.FetchResult(
            PLACE, assignment=assignment, partition_records=unpacked(as_sent), backoff=0
        )
        assert result.getall(2) == []
        assert assignment.position == change.get("position", 0)
