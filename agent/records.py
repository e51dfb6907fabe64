"""Records as the client's parser gives them, without the copy that half of reading goes into.

aiokafka parses a batch in C and then copies each record, in Python, into a dataclass that says
besides which topic and partition it is of. Who reads a partition's records knows that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiokafka.consumer import fetcher

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    def _consumer_record(self, tp: TopicPartition, record: Record) -> Record:
        if self._value_deserializer is as_sent:
            return record
        copied: Record = super()._consumer_record(tp, record)
        return copied


# Of every consumer in this process; only those that ask for it get anything else.
fetcher.PartitionRecords = _PartitionRecords
