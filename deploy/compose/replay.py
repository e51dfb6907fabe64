"""Sends simulated logs to a topic, without end and at a modest rate: what the agent here judges.

Runs in the agent's image. Each round is a log of its own, so there is always something that was
not seen before.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from crosyslog.errors import CrosyslogError
from crosyslog.systems import load_system
from crosyslog.terminal import printable
from deploy.demo.replay import load_replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Lines are sent so often; a rate of fewer lines a second than this is not reached.
_SENDS_A_SECOND = 10

#: The seed of the first round; `trainer simulate --seed 0` wrote what the model was adapted on.
_FIRST_SEED = 1


def simulated_rounds(system: str, lines: int, rounds: int | None) -> Iterator[list[bytes]]:
    """The lines of one simulated log after another, without their labels.

    Args:
        system: that is simulated.
        lines: of a round.
        rounds: how many; none for ever.
    """
    from trainer.simulation import write_simulated_log

    profile = load_system(system)
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "round.log"
        while done != rounds:
            write_simulated_log(
                system=system, lines=lines, anomaly_rate=0.02, seed=_FIRST_SEED + done, output=path
            )
            yield load_replay(path, profile, 0).lines
            done += 1


async def send_paced(kafka: str, topic: str, rounds: Iterator[list[bytes]], rate: int) -> int:
    """Sends lines at a rate, and returns how many were sent.

    A broker that is away for a while is waited for; what could not be sent then is sent late.

    Args:
        kafka: brokers to ask first.
        topic: where the lines go, dealt over its partitions.
        rounds: the lines.
        rate: lines a second.
    """
    from aiokafka import AIOKafkaProducer

    size, sent = max(1, rate // _SENDS_A_SECOND), 0
    producer = AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=5)
    try:
        await producer.start()
        # The next log is simulated while this one is sent.
        following = asyncio.create_task(asyncio.to_thread(next, rounds, None))
        while (lines := await following) is not None:
            following = asyncio.create_task(asyncio.to_thread(next, rounds, None))
            due = monotonic()
            for start in range(0, len(lines), size):
                part = lines[start : start + size]
                waiting = [await producer.send(topic, line) for line in part]
                await asyncio.gather(*waiting)
                sent += len(part)
                due += size / rate
                await asyncio.sleep(max(0.0, due - monotonic()))
    finally:
        await producer.stop()
    return sent


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the replay and returns its exit status."""
    # What goes wrong is said once, by us.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    parser = argparse.ArgumentParser(prog="python -m deploy.compose.replay", description=__doc__)
    parser.add_argument("topic", help="where the lines go")
    parser.add_argument("--kafka", default="localhost:9092", help="brokers to ask first")
    parser.add_argument("--system", default="thunderbird", help="the system that is simulated")
    parser.add_argument("--rate", type=int, default=500, help="lines a second")
    parser.add_argument("--lines", type=int, default=50_000, help="lines of a simulated log")
    parser.add_argument("--rounds", type=int, help="logs to send; without end if not given")
    given = parser.parse_args(arguments)
    if min(given.rate, given.lines, given.rounds or 1) < 1:
        parser.error("--rate, --lines and --rounds must be 1 or more")
    from aiokafka.errors import KafkaError

    try:
        rounds = simulated_rounds(given.system, given.lines, given.rounds)
        sent = asyncio.run(send_paced(given.kafka, given.topic, rounds, given.rate))
    except (CrosyslogError, KafkaError) as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{sent:,} lines sent to {given.topic}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
