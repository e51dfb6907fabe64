"""What the pipeline delivers together, and its end when it does not come in order."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pytest
from aiokafka import ConsumerRecord, TopicPartition

from agent.judging import Judged
from agent.metrics import Metrics
from agent.partition import Assignment, Batch, Chunk
from agent.pipeline import Pipeline, _can_wait
from agent.publishing import Outputs
from crosyslog.errors import CrosyslogError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.delivery import Outcome
    from agent.judging import Lines

PLACE = TopicPartition("logs", 0)


class BrokenJudge:
    """Can judge no line at all."""

    def judge(self, *_: object) -> NoReturn:
        raise CrosyslogError("no line can be judged")


def batch(assignment: Assignment, offset: int) -> Batch:
    line: Any = ConsumerRecord("logs", 0, offset, 0, 0, None, b"a line", None, 0, 6, ())
    found = Batch(assignment)
    found.add(Chunk(assignment.partitions[PLACE], [line]))
    return found


@pytest.mark.parametrize(
    ("lines", "size", "waits"),
    [(20_000, 200, True), (300_000, 200, False), (20_000, 40_000_000, False)],
    ids=["there is room", "many lines", "many bytes"],
)
def test_full_batches_wait_to_be_delivered_together_until_they_are_many(
    lines: int, size: int, waits: bool
) -> None:
    batch: Any = SimpleNamespace(
        assignment=SimpleNamespace(closing=False), full=True, express=False, lines=lines
    )
    done: Any = SimpleNamespace(batch=batch, bytes=size)
    assert _can_wait([done]) is waits
    batch.assignment.closing = True
    assert not _can_wait([done])


async def test_a_stop_does_not_wait_for_a_pipeline_that_has_failed() -> None:
    assignment = Assignment({PLACE: 0})
    assignment.partitions[PLACE].begin(0)
    judge: Any = BrokenJudge()
    delivery: Any = None
    outputs = Outputs("logs.anomalies", "logs.dlq")
    pipeline = Pipeline(judge, delivery, outputs, Metrics(), lambda _error: None)
    # One is judged, and another one waits for it, so that there is no room to say the end.
    submitting = [
        asyncio.create_task(pipeline.submit(batch(assignment, offset))) for offset in (0, 1)
    ]
    running = asyncio.create_task(pipeline.run())
    with pytest.raises(CrosyslogError, match="no line can be judged"):
        async with asyncio.timeout(10):
            await running
    async with asyncio.timeout(10):
        await pipeline.finish()
        await pipeline.finish()
    for task in submitting:
        task.cancel()
    await asyncio.gather(*submitting, return_exceptions=True)


class EventJudge:
    """Finds an event in the first line of each partition."""

    def judge(self, lines: Lines, *_: object) -> Judged:
        time.sleep(0.02)
        rows = np.unique(lines.partitions, return_index=True)[1].tolist()
        events = [
            {
                "anomaly": {"id": f"logs/{lines.partitions[row]}/{lines.offsets[row]}"},
                "resource": {},
            }
            for row in rows
        ]
        return Judged({}, events, rows, [], np.zeros(len(lines.offsets), dtype=np.float32))


class SlowDelivery:
    """Takes longer than scoring does, and notes when what was delivered."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    async def deliver(self, outcomes: Sequence[Outcome]) -> None:
        await asyncio.sleep(0.05)
        for outcome in outcomes:
            self.at |= {message.id: time.monotonic() for message in outcome.messages}


async def test_full_batches_are_delivered_in_time_while_more_of_them_are_always_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A quiet partition's lines go before them each time, and take longer than scoring."""
    monkeypatch.setattr("agent.pipeline._PATIENCE_SECONDS", 0.2)
    loud, quiet = TopicPartition("logs", 0), TopicPartition("logs", 1)
    assignment = Assignment({loud: 0, quiet: 0})
    for partition in assignment.partitions.values():
        partition.begin(0)
    judge: Any = EventJudge()
    delivery: Any = SlowDelivery()
    outputs = Outputs("logs.anomalies", "logs.dlq")
    pipeline = Pipeline(judge, delivery, outputs, Metrics(), lambda _error: None)
    running = asyncio.create_task(pipeline.run())
    read: dict[str, float] = {}
    for number in range(60):
        found = Batch(assignment, full=True)
        for place in (loud, quiet):
            line: Any = ConsumerRecord(*place, number, 0, 0, None, b"x", None, 0, 1, ())
            found.add(Chunk(assignment.partitions[place], [line]))
            read[f"logs/{place.partition}/{number}"] = time.monotonic()
        found.busy.add(assignment.partitions[loud])
        await pipeline.submit(found)
    await pipeline.finish()
    async with asyncio.timeout(10):
        await running
    late = {name: at - read[name] for name, at in delivery.at.items() if name.startswith("logs/0")}
    assert len(late) == 60
    assert max(late.values()) < 1.5
