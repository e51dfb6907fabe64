"""Lines that cannot be judged: why, and the message that keeps each as it came."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from agent.publishing import Message

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from agent.publishing import Outputs
    from agent.reasons import Reason
    from agent.records import Record

#: What the headers that we add begin with; a line's own are left as they are.
PREFIX = "crosyslog."

#: How often a line was sent back, in a header that stays with it: a guard against loops.
REPLAYS = f"{PREFIX}replays"

#: Of a letter that is too large for its topic: how many bytes its value has, which is left out.
VALUE_LEFT_OUT = f"{PREFIX}value-left-out"

#: In a message that has to be small, a longer key is left out.
LONGEST_KEY = 1_024

#: An error's text can hold the line that it is about.
_LONGEST_DETAIL = 500

#: The headers that stay in a message that has to be small, and how many bytes each has at most.
_OWN = {
    REPLAYS,
    *(f"{PREFIX}{name}" for name in ("reason", "detail", "topic", "partition", "offset", "time")),
}
_LONGEST_OWN = 4 * _LONGEST_DETAIL

#: A message must not become too large for its topic by what it carries beside its value.
_LONGEST_HEADERS = 32_768


class DeadLetter(NamedTuple):
    """A line that cannot be judged.

    Attributes:
        row: which line of those that were to be judged.
        reason: why not, in a word.
        detail: the same in a sentence.
    """

    row: int
    reason: Reason
    detail: str


def dead_letter_message(
    letter: DeadLetter, place: TopicPartition, record: Record, outputs: Outputs
) -> Message:
    """The message of a dead letter: key, value and headers as they came, and why it is one.

    Args:
        letter: why.
        place: the partition that the line is of.
        record: the line; beyond 32 KiB of its headers, the later ones are left out.
        outputs: where dead letters go.
    """
    own = {
        "reason": letter.reason,
        "detail": letter.detail[:_LONGEST_DETAIL],
        "topic": place.topic,
        "partition": str(place.partition),
        "offset": str(record.offset),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    kept: list[tuple[str, bytes | None]] = []
    size = 0
    for name, content in record.headers:
        size += len(name) + len(content or b"")
        if name.removeprefix(PREFIX) in own and name.startswith(PREFIX):
            continue  # of the time before, when it was sent back
        if size > _LONGEST_HEADERS:
            own["headers-left-out"] = str(len(record.headers) - len(kept))
            break
        kept.append((name, content))
    added = [(f"{PREFIX}{name}", text.encode(errors="replace")) for name, text in own.items()]
    return Message(
        f"{place.topic}/{place.partition}/{record.offset}",
        outputs.dead_letters,
        place.partition,
        record.key,
        record.value,
        [*kept, *added],
        smaller=_without_value,
    )


def _without_value(message: Message) -> Message:
    """The message of a letter that its topic does not take: why it is one, and what is missing."""
    own = [
        (name, content)
        for name, content in message.headers
        if name in _OWN and len(content or b"") <= _LONGEST_OWN
    ]
    missing = len(message.headers) - len(own)
    if message.value is not None:
        own.append((VALUE_LEFT_OUT, str(len(message.value)).encode()))
    if missing:
        own.append((f"{PREFIX}headers-left-out", str(missing).encode()))
    key = message.key if len(message.key or b"") <= LONGEST_KEY else None
    return message._replace(key=key, value=None, headers=own)
