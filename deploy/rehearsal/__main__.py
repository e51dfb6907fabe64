"""`python -m deploy.rehearsal`: broker, agents, Prometheus, load and faults, in two minutes.

Asks every query of the dashboards and rules, and says which alerts fired and cleared; exits with 1
if a query answers nothing. It needs Java, Maven and Prometheus.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from crosyslog.errors import CrosyslogError
from deploy.grafana.dashboards import build as build_dashboards
from deploy.prometheus.timing import QUICK
from deploy.rehearsal.answers import Answer, of_panels, of_rules, resolve
from deploy.rehearsal.pictures import draw
from deploy.rehearsal.world import Rehearsal, free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.rehearsal", description=__doc__)
    parser.add_argument("--pictures", type=Path, help="a folder for a PNG of each dashboard")
    parser.add_argument("--queries", action="store_true", help="print each query with its answer")
    parser.add_argument("--keep", type=Path, help="a folder for logs and models, to keep them")
    chosen = parser.parse_args(arguments)
    answers: list[Answer] = []

    def look(rehearsal: Rehearsal) -> None:
        seen = rehearsal.seen
        ask = partial(rehearsal.prometheus.query_range, start=seen.began, end=seen.ended, step=1.0)
        answers.extend([*of_panels(ask), *of_rules(ask, QUICK)])
        for name, dashboard in build_dashboards().items() if chosen.pictures else ():
            chosen.pictures.mkdir(parents=True, exist_ok=True)
            path = chosen.pictures / f"{Path(name).stem}.png"
            draw(dashboard, ask, resolve, seen.happenings, seen.began, path)

    # The client's word on a broker that is away, by our own doing.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        folder = chosen.keep
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        print(
            "simulating a log, adapting a model, starting Kafka, agents and Prometheus", flush=True
        )
        rehearsal = Rehearsal(folder, QUICK, free_ports(), partial(print, flush=True))
        try:
            seen = asyncio.run(rehearsal.run(look))
        except CrosyslogError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    silent = [answer for answer in answers if answer.last is None]
    for answer in answers if chosen.queries else silent:
        value = "NOTHING" if answer.last is None else f"{answer.last:.6g}"
        print(f"{value:>12}  {answer.series:>3} series  {answer.where}: {answer.expr}")
    for alert, (fired, cleared) in seen.fired.items():
        print(f"{alert} fired after {fired:.0f} s and had cleared after {cleared:.0f} s")
    print(
        f"{len(answers) - len(silent)} of {len(answers)} queries answered; "
        f"{len(seen.fired)} alerts fired and cleared"
    )
    return int(bool(silent))


if __name__ == "__main__":
    sys.exit(main())
