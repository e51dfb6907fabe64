"""What tests of simulated logs share."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from crosyslog.lines import decode, read_lines
from crosyslog.masking import mask
from crosyslog.systems import load_system
from trainer.simulation import label_column, simulated_systems
from trainer.simulation.catalogue import load_catalogue
from trainer.simulation.session_catalogue import load_session_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.simulation.catalogue import Catalogue

SYSTEMS = simulated_systems()
SESSION_SYSTEMS = tuple(system for system in SYSTEMS if label_column(system))
LINE_SYSTEMS = tuple(system for system in SYSTEMS if not label_column(system))
SYSLOG_SYSTEMS = tuple(system for system in LINE_SYSTEMS if system != "bgl")
SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


def masked(texts: list[str]) -> list[str]:
    return mask(pl.Series("text", texts, dtype=pl.String)).to_list()


def split(system: str, lines: Iterable[bytes]) -> pl.DataFrame:
    """Lines as the system's profile reads them."""
    frame = read_lines(decode(list(lines)), load_system(system))
    assert frame["split"].all()
    return frame


def tables(name: str) -> dict[str, Any]:
    return tomllib.loads((files("trainer.simulation") / f"{name}.toml").read_text("utf-8"))


def hidden(text: str) -> str:
    """A text with each slot taken as one that masking hides."""
    return re.sub(r"\{\w+\}", "7", text)


def templates_of(catalogue: Catalogue, kind: str) -> set[str]:
    """The masked templates of a catalogue whose lines have labels."""
    texts = catalogue.alerts() if kind == "alerts" else catalogue.benign()
    return set(masked([hidden(text) for _, text in texts]))


def all_templates(system: str) -> set[str]:
    """The masked templates of any system."""
    if system in SESSION_SYSTEMS:
        texts = [text for _, text in load_session_catalogue(system).events.values()]
        return set(masked([hidden(text) for text in texts]))
    catalogue = load_catalogue(system)
    return templates_of(catalogue, "benign") | templates_of(catalogue, "alerts")
