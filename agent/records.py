"""Records as the client's parser gives them, without the copy that half of reading goes into.

aiokafka parses a batch in C and then copies each record, in Python, into a dataclass that says
besides which topic and partition it is of. Who reads a partition's records knows that.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from aiokafka.consumer import fetcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aiokafka import TopicPartition


class Record(Protocol):
    """A record of a partition."""

    @property
    def offset(self) -> int:
        """Where it stands."""

    @property
    def timestamp(self) -> int:
        """In milliseconds since 1970; -1 where the producer sent none."""

    @property
    def key(self) -> bytes | None:
        """As it was sent."""

    @property
    def value(self) -> bytes | None:
        """As it was sent."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Names and contents."""


def as_sent(value: bytes) -> bytes:
    """The `value_deserializer` of a consumer that wants records as they are parsed.

    Should aiokafka come to copy them elsewhere, then this changes nothing, and its own records
    have the same attributes.
    """
    return value


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    def __iter__(self) -> Iterator[Any]:
        # What it is itself, with one more call for each record.
        records: Iterator[Any] = self._records_iterator
        return records

    def _consumer_record(self, tp: TopicPartition, record: Record) -> Record:
        if self._value_deserializer is as_sent:
            return record
        copied: Record = super()._consumer_record(tp, record)
        return copied


class _FetchResult(fetcher.FetchResult):  # type: ignore[misc]
    _partition_records: _PartitionRecords | None

    def getall(self, max_records: int | None = None) -> list[Any]:
        # As it was, without a turn of a loop for each record.
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        records = list(islice(self._partition_records or (), max_records))
        self._update_position()
        if max_records is None or len(records) < max_records:
            self._partition_records = None
        return records


# Of every consumer in this process; only those that ask for it get other records.
fetcher.PartitionRecords = _PartitionRecords
fetcher.FetchResult = _FetchResult
