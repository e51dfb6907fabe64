"""The pipeline's end, when it does not come in order."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from agent.metrics import Metrics
from agent.partition import Assignment, Batch, Chunk
from agent.pipeline import Pipeline, _can_wait
from agent.publishing import Outputs
from crosyslog.errors import CrosyslogError

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
    ("lines", "messages", "waits"),
    [(20_000, 200, True), (300_000, 200, False), (20_000, 60_000, False)],
    ids=["there is room", "many lines", "many messages"],
)
def test_full_batches_wait_to_be_delivered_together_until_they_are_many(
    lines: int, messages: int, waits: bool
) -> None:
    batch: Any = SimpleNamespace(
        assignment=SimpleNamespace(closing=False), full=True, express=False, lines=lines
    )
    done: Any = SimpleNamespace(batch=batch, outcomes=[SimpleNamespace(messages=[None] * messages)])
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
