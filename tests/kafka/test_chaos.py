"""A short chaos run; `make chaos` is the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kafka.chaos.running import run_chaos
from tests.kafka.chaos.world import Plan

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.local_kafka import LocalKafka

PLAN = Plan(
    6_000, poison=0.005, kills=3, stops=1, joins=2, broker_kills=1, swaps=1, pause=3.0, seed=7
)


@pytest.mark.parametrize("detector", ["maml_lstm"])
async def test_every_anomaly_is_there_exactly_once(
    own_kafka: LocalKafka, tmp_path: Path, detector: str
) -> None:
    found = await run_chaos(tmp_path, own_kafka, PLAN, detector)
    agents = (tmp_path / "agents.log").read_text(errors="replace")
    assert found.good, (found, agents[-4000:])
    assert found.counts["lines"] == PLAN.lines
    assert found.counts["anomalies"] > 500
    assert found.counts["dead_letters"] > 10
    assert sum(found.faults.values()) == len(PLAN.faults)
    assert "Traceback" not in agents
    for name in ("input", "events", "dead_letters", "faults", "scan-0"):
        assert (tmp_path / f"{name}.jsonl").stat().st_size
