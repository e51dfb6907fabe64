"""Simulated logs of any system, whoever its labels belong to."""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Protocol

from crosyslog.errors import SystemProfileError
from trainer.simulation.catalogue import SHARED, read_tables
from trainer.simulation.sessions import SessionSimulation
from trainer.simulation.settings import LATE_TEMPLATES, Settings
from trainer.simulation.stream import Block, Simulation

# The table that a system's file has if its labels belong to sessions.
_OF_SESSIONS = "session"


class SimulatedLog(Protocol):
    """A log that can be written once or many times."""

    def blocks(self) -> Iterator[Block]:
        """The log from its first line to its last."""


def simulated_systems() -> tuple[str, ...]:
    """The systems that can be simulated, by name and in order."""
    names = (file.name for file in files("trainer.simulation").iterdir())
    systems = {name.removesuffix(".toml") for name in names if name.endswith(".toml")}
    return tuple(sorted(systems - {SHARED}))


@cache
def label_column(system: str) -> str:
    """What the file of labels calls a session of this system; empty where lines have labels."""
    session = read_tables(system).get(_OF_SESSIONS, {})
    return str(session.get("column", ""))


def open_log(system: str, settings: Settings) -> SimulatedLog:
    """A simulated log, ready to be written.

    Raises:
        SystemProfileError: the system cannot be simulated.
        SettingError: the log cannot be what it is asked to be.
    """
    systems = simulated_systems()
    if system not in systems:
        raise SystemProfileError(
            f"system {system!r} cannot be simulated: choose one of {', '.join(systems)}"
        )
    return (SessionSimulation if label_column(system) else Simulation)(system, settings)


def simulate(
    system: str,
    lines: int,
    anomaly_rate: float,
    seed: int,
    *,
    late_templates: float = LATE_TEMPLATES,
    templates: int | None = None,
) -> Iterator[bytes]:
    """The lines of a log in the system's raw format, without their line feeds.

    The same arguments give the same bytes everywhere. Memory does not grow with `lines`. A few
    lines hold bytes that are no UTF-8, as real logs do. Where labels belong to sessions, no line
    has one: `write_simulated_log` writes them beside the log.

    Args:
        system: one of `simulated_systems()`.
        lines: how many lines, at least 1.
        anomaly_rate: share of alert lines, from 0 to 0.6, met to the line; where labels belong to
            sessions, share of anomalous sessions.
        seed: 0 or above; decides everything that is left open.
        late_templates: share of harmless templates that first appear later on, from 0 to 0.9.
        templates: about how many distinct masked templates the log comes to hold, by made-up names
            of users, programs and the like; without it, a few hundred to some thousand.

    Raises:
        SystemProfileError: the system cannot be simulated.
        SettingError: another argument is outside its range, or the log cannot hold that many
            templates.
    """
    settings = Settings(
        lines=lines,
        anomaly_rate=anomaly_rate,
        seed=seed,
        late_templates=late_templates,
        templates=templates,
    )
    blocks = open_log(system, settings).blocks()
    return (line for block in blocks for line in block.text[:-1].split(b"\n"))
