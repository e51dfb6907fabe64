"""The life of a partition: what may follow what."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from aiokafka import TopicPartition

from agent.partition import Assignment, Partition, Stage

PLACE = TopicPartition("logs", 0)

#: How to come to each stage.
WAYS = {
    Stage.ASSIGNED: (),
    Stage.RESTORING: (Stage.RESTORING,),
    Stage.RUNNING: (Stage.RESTORING, Stage.RUNNING),
    Stage.DRAINING: (Stage.RESTORING, Stage.DRAINING),
    Stage.RELEASED: (Stage.RELEASED,),
}

LEGAL = {
    (Stage.ASSIGNED, Stage.RESTORING),
    (Stage.ASSIGNED, Stage.RELEASED),
    (Stage.RESTORING, Stage.RUNNING),
    (Stage.RESTORING, Stage.DRAINING),
    (Stage.RESTORING, Stage.RELEASED),
    (Stage.RUNNING, Stage.DRAINING),
    (Stage.RUNNING, Stage.RELEASED),
    (Stage.DRAINING, Stage.RELEASED),
}


@pytest.mark.parametrize(
    ("before", "after"),
    list(itertools.product(Stage, Stage)),
    ids=lambda stage: stage.value,
)
def test_a_stage_follows_another_or_is_refused(before: Stage, after: Stage) -> None:
    partition = Partition(PLACE, 0)
    for stage in WAYS[before]:
        partition.move(stage)
    assert partition.stage is before
    if (before, after) in LEGAL:
        partition.move(after)
        assert partition.stage is after
    else:
        with pytest.raises(RuntimeError, match=f"{after.value} does not follow {before.value}"):
            partition.move(after)


def test_a_partition_is_restored_until_its_first_own_line_is_read() -> None:
    partition = Partition(PLACE, 130)
    partition.begin(130)
    stages = []
    for behind in (120, 130, 131):
        partition.has_read(behind)
        stages.append(partition.stage)
    assert stages == [Stage.RESTORING, Stage.RESTORING, Stage.RUNNING]


async def test_an_assignment_drains_and_lets_go() -> None:
    assignment = Assignment({PLACE: 0, TopicPartition("logs", 1): 7})
    for partition in assignment.partitions.values():
        partition.begin(partition.start)
    assignment.batch_taken()
    draining = asyncio.create_task(assignment.drain(10))
    await asyncio.sleep(0)
    assert {one.stage for one in assignment.partitions.values()} == {Stage.DRAINING}
    assert assignment.closing
    assert assignment.active
    assignment.batch_settled()
    await asyncio.wait_for(draining, 1)
    assignment.end()
    assert {one.stage for one in assignment.partitions.values()} == {Stage.RELEASED}
    assert not assignment.active


async def test_draining_gives_up_after_a_time() -> None:
    assignment = Assignment({PLACE: 0})
    assignment.batch_taken()
    await asyncio.wait_for(assignment.drain(0.05), 1)
    assert assignment.active
