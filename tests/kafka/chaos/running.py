"""One chaos run from its topics to its verdict."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.local_kafka import create_topics
from tests.kafka.chaos.verdict import verdict
from tests.kafka.chaos.world import PARTITIONS, TOPIC, Plan, World

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.local_kafka import LocalKafka

#: Counts that are none of faults.
_HARMLESS = {"lines", "anomalies", "dead_letters"}


@dataclass(frozen=True)
class Found:
    """What a run came to.

    Attributes:
        counts: by what is counted.
        faults: how many there were of each kind.
        caught_up: whether the group came to the end of the input.
        statuses: of the agents that were ended in order.
    """

    counts: dict[str, int]
    faults: dict[str, int]
    caught_up: bool
    statuses: list[int]

    @property
    def good(self) -> bool:
        """Whether all is as it has to be."""
        bad = [count for name, count in self.counts.items() if name not in _HARMLESS]
        return self.caught_up and not any(bad) and not any(self.statuses)


async def run_chaos(folder: Path, kafka: LocalKafka, plan: Plan, detector: str) -> Found:
    """Sends lines to agents that are disturbed, and compares what comes out.

    Args:
        folder: for all that is kept.
        kafka: a broker of its own.
        plan: how much happens.
        detector: of the model.
    """
    world = World(folder, kafka, plan, detector)
    await create_topics(kafka.bootstrap_servers, {TOPIC: PARTITIONS})
    await asyncio.to_thread(world.add_model)
    try:
        for _ in range(2):
            await world.start_agent()
        await asyncio.gather(world.send(), world.disturb())
        caught_up = await world.caught_up(180)
        statuses = await world.end()
    finally:
        world.kill_all()
    counts = await verdict(world, folder)
    faults = Counter(one["fault"] for one in world.faults)
    return Found(counts, dict(faults), caught_up, statuses)
