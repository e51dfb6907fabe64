"""Labelled log files, as every command reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crosyslog.errors import InputError, LabelError
from crosyslog.systems import System, load_system, system_names
from trainer.screen import progress

if TYPE_CHECKING:
    import polars as pl

    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder

#: Templates that are encoded between two movements of the progress bar: about half a second.
_ENCODED_AT_ONCE = 128


def system_of(target: str, given: str | None) -> System:
    """The profile of a target's lines: the one that was given, else that of its name, else plain.

    Raises:
        SystemProfileError: the given profile is unknown or malformed.
    """
    if given is not None:
        return load_system(given)
    return load_system(target if target in system_names() else "plain")


def read_labelled(path: Path, system: System) -> "pl.DataFrame":
    """The labelled lines of a log, in the order they were written.

    Returns:
        The columns of `crosyslog.lines.read_lines`, and `offset`, the line's place in the file.

    Raises:
        InputError: the file cannot be read, is empty, or no line of it is one of the system's.
        LabelError: no line has a label.
    """
    import polars as pl

    from crosyslog.lines import read_lines

    if "label" not in system.groups:
        raise LabelError(
            f"the profile {system.name} knows no labels: say with --system which system wrote "
            f"{path} ({_labelled_systems()}, or a profile of your own)"
        )
    lines = read_lines(path, system).with_row_index("offset")
    if not lines["split"].any():
        raise InputError(
            f"{path} is no log of {system.name}: none of its {lines.height:,} lines splits; "
            f"see `trainer systems check {system.name} FILE`"
        )
    labelled = lines.filter(pl.col("label").is_not_null())
    if labelled.is_empty():
        raise LabelError(
            f"no line of {path} has a label: a labelled log of {system.name} starts each line "
            f"with {system.fields.normal!r} or an alert tag"
        )
    return labelled.with_columns(pl.col("offset").cast(pl.Int64))


def encode_with_progress(
    texts: Sequence["pl.Series"], encoder: "Encoder", cache: "EmbeddingCache"
) -> None:
    """Puts the vectors of all templates of the texts into the cache, behind a progress bar."""
    import polars as pl

    from crosyslog.masking import mask

    templates = pl.concat([mask(part.rename("text")).unique() for part in texts]).unique().sort()
    with progress("encoding templates", len(templates)) as done:
        for start in range(0, len(templates), _ENCODED_AT_ONCE):
            cache.vectors(templates.slice(start, _ENCODED_AT_ONCE).to_list(), encoder)
            done(start + _ENCODED_AT_ONCE)


def _labelled_systems() -> str:
    return ", ".join(name for name in system_names() if "label" in load_system(name).groups)
