"""`make chaos`: agents, a broker and faults, and whether every anomaly is there exactly once."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

from deploy.local_kafka import LocalKafka
from tests.kafka.chaos.running import run_chaos
from tests.kafka.chaos.world import Plan


def main() -> int:
    """Runs it with each detector; the exit status is 1 if anything is not as it has to be."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--poison", type=float, default=0.001, help="the share of the lines")
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs of agents")
    parser.add_argument("--stops", type=int, default=4, help="SIGSTOPs past the session")
    parser.add_argument("--joins", type=int, default=10, help="agents that join or leave")
    parser.add_argument("--broker-kills", type=int, default=3)
    parser.add_argument("--swaps", type=int, default=3, help="new versions of the model")
    parser.add_argument("--pause", type=float, default=4.0, help="seconds between two faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", action="append", choices=("evidence", "maml_lstm"))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave what was compared here")
    chosen = parser.parse_args()
    plan = Plan(
        chosen.lines, chosen.poison, chosen.kills, chosen.stops, chosen.joins,
        chosen.broker_kills, chosen.swaps, chosen.pause, chosen.seed,
    )  # fmt: skip
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a dying broker is the point
    good = True
    for detector in chosen.detector or ("evidence", "maml_lstm"):
        with tempfile.TemporaryDirectory() as scratch, LocalKafka() as kafka:
            folder = chosen.keep / detector if chosen.keep else Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            began = time.monotonic()
            found = asyncio.run(run_chaos(folder, kafka, plan, detector))
            faults = ", ".join(f"{count} {kind}" for kind, count in found.faults.items())
            print(f"{detector}: {time.monotonic() - began:.0f} s; faults: {faults}")
            for name, count in found.counts.items():
                print(f"  {name.replace('_', ' '):<20} {count:,}")
            print(f"  {'caught up':<20} {'yes' if found.caught_up else 'NO'}")
            print(f"  {'ended with status':<20} {', '.join(map(str, found.statuses))}")
            good = good and found.good
    print("every anomaly is there exactly once" if good else "NOT as it has to be")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
