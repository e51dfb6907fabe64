"""Where partitions begin: at what the group has committed, at `start_from`, or at what is left."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import TopicPartition

from crosyslog.windows import WINDOW

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiokafka import AIOKafkaConsumer

    from agent.metrics import Metrics
    from agent.setting_parts import KafkaSettings

log = logging.getLogger(__name__)


class Beginning(NamedTuple):
    """Where a partition begins.

    Attributes:
        start: the first offset to be judged.
        window: the first offset to be read: later scores depend on the lines of a window.
    """

    start: int
    window: int


async def find_beginnings(
    consumer: AIOKafkaConsumer,
    partitions: Collection[TopicPartition],
    settings: KafkaSettings,
    metrics: Metrics,
    *,
    assigned_before: bool,
) -> dict[TopicPartition, Beginning]:
    """Finds where each partition goes on, and commits what is not committed so.

    Args:
        consumer: a member of the group that has the partitions.
        partitions: that it was given.
        settings: the group, and where it starts.
        metrics: what is counted.
        assigned_before: whether this agent has begun with partitions before.

    Raises:
        CommitFailedError, IllegalStateError: the partitions are not this agent's any more.
        KafkaError: another failure; it may be tried again.
    """
    first = await consumer.beginning_offsets(list(partitions)) if partitions else {}
    ends = await consumer.end_offsets(list(partitions)) if partitions else {}
    found = await asyncio.gather(*(consumer.committed(tp) for tp in partitions))
    starts = dict(zip(partitions, found, strict=True))
    new = {tp for tp, offset in starts.items() if offset is None}
    if new:
        starts.update(
            await _first_positions(consumer, sorted(new), settings, assigned_before=assigned_before)
        )
    for tp in starts.keys() - new:
        if starts[tp] < first[tp]:
            lost = first[tp] - starts[tp]
            metrics.lost_offsets.inc(lost)
            log.warning(
                "%s/%d: %d offsets were removed by retention before they were read",
                tp.topic, tp.partition, lost,
            )  # fmt: skip
        elif starts[tp] > ends[tp]:
            log.warning(
                "%s/%d ends before offset %d, where reading was: reading it from its start",
                tp.topic, tp.partition, starts[tp],
            )  # fmt: skip
        else:
            continue
        new.add(tp)
        starts[tp] = first[tp]
    if new:
        # At once, so that a crash before the first batch loses nothing, nor counts it twice.
        await consumer.commit({tp: starts[tp] for tp in new})
    return {
        tp: Beginning(offset, max(first[tp], offset - offset % WINDOW))
        for tp, offset in starts.items()
    }


async def _first_positions(
    consumer: AIOKafkaConsumer,
    new: list[TopicPartition],
    settings: KafkaSettings,
    *,
    assigned_before: bool,
) -> dict[TopicPartition, int]:
    """Where partitions start that the group has not read yet.

    `start_from` is for a new group. In a group that reads the topic already, the partition
    is new, and all of it is to be read.
    """
    topic = settings.resolved_topic
    everything = {
        TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()
    }
    others = await asyncio.gather(*(consumer.committed(tp) for tp in everything - set(new)))
    start = settings.start_from
    # Of agents that start together, another may have been quicker to commit: the group is
    # new all the same in its first generation.
    joined = any(offset is not None for offset in others) and _generation(consumer) != 1
    if assigned_before or joined:
        start = "earliest"
    if start == "earliest":
        return dict(await consumer.beginning_offsets(new))
    ends = dict(await consumer.end_offsets(new))
    if isinstance(start, datetime):
        moment = int(start.timestamp() * 1000)
        at = await consumer.offsets_for_times(dict.fromkeys(new, moment))
        ends.update({tp: found.offset for tp, found in at.items() if found is not None})
    return ends


def _generation(consumer: AIOKafkaConsumer) -> int:
    """How many times the group has been balanced; 0 where the client does not tell."""
    # It has no public name.
    return int(getattr(consumer._coordinator, "generation", 0))  # noqa: SLF001
