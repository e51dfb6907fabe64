"""Raw lines to the fields of a profile, all strings: by patterns, or by paths into JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crosyslog.systems.json_paths import Steps, excess_paths, json_path, keys_of, parse_path
from crosyslog.systems.profile import COLUMNS

if TYPE_CHECKING:
    import polars as pl

    from crosyslog.systems.profile import Paths, System

#: The severities of syslog by their number (RFC 5424, 6.2.1), in words that events know.
_SEVERITIES = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")

#: The severity of each PRI: the highest is facility 23, severity 7.
_PRIORITIES = {str(priority): _SEVERITIES[priority % 8] for priority in range(192)}

#: From this many lines on, both cores together are faster than one: 1.6 times on two.
_ENOUGH_TO_SHARE = 2_000


def fields_of(raw: pl.Series, system: System) -> pl.DataFrame:
    """What the profile finds in each line.

    Args:
        raw: strings named `raw`.
        system: the profile.

    Returns:
        `raw`, and the strings `COLUMNS`, null where the line does not have one. A line whose
        `message` is null did not split, and all its other fields are null too.
    """
    import polars as pl

    frame = raw.to_frame()
    if system.paths is not None:
        fields = _by_paths(frame, system.paths)
    else:
        fields = frame
        for number, pattern in enumerate(system.patterns):
            if number and not fields["message"].has_nulls():
                break
            fields = _by_pattern(fields, pattern)
    changes = {
        name: pl.lit(None, dtype=pl.String) for name in COLUMNS if name not in fields.columns
    }
    if system.session is not None:
        grouped = pl.select(pl.lit("").str.extract_groups(system.session)).item() != {}
        session = pl.col("raw").str.extract(system.session, int(grouped))
        if not system.judges_whole:
            session = pl.when(pl.col("message").is_not_null()).then(session)
        changes["session"] = session
    if system.severity.priority:
        changes["severity"] = pl.col("severity").replace_strict(_PRIORITIES, default=None)
    elif system.severity.words:
        changes["severity"] = pl.col("severity").replace(system.severity.words)
    return fields.with_columns(**changes).select("raw", *COLUMNS)


def _by_pattern(fields: pl.DataFrame, pattern: str) -> pl.DataFrame:
    """Fills the columns of the lines that have no message yet."""
    import polars as pl

    # A line that has matched is null here, so that it costs nothing.
    raw = pl.col("raw")
    rest = pl.when(pl.col("message").is_null()).then(raw) if "message" in fields else raw
    found = _select(fields, [rest.str.extract_groups(pattern).alias("found")])["found"].struct
    return fields.with_columns(
        fields[name].zip_with(fields[name].is_not_null(), found.field(name))
        if name in fields
        else found.field(name)
        for name in found.fields
        if name in COLUMNS
    )


def _by_paths(frame: pl.DataFrame, paths: Paths) -> pl.DataFrame:
    """The value at the first path that has one.

    Each path reads the line's JSON anew, so only those are tried whose keys some line holds.
    """
    import polars as pl

    raw = pl.col("raw")
    wanted = {
        name: [parse_path(path) for path in getattr(paths, name)]
        for name in COLUMNS
        if getattr(paths, name)
    }
    keys = {key for tried in wanted.values() for path in tried for key in keys_of(path)}
    # A key of other letters may stand there as \u escapes.
    contained = [
        (raw.str.contains(f'"{key}"', literal=True) if key.isascii() else pl.lit(value=True))
        .any()
        .alias(key)
        for key in sorted(keys)
    ]
    held = _select(frame, contained).row(0, named=True)
    live = {
        name: [path for path in tried if all(held[key] for key in keys_of(path))]
        for name, tried in wanted.items()
    }
    fields = frame.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in wanted)
    for turn in range(max(map(len, live.values()))):
        values = [
            _value(pl.when(pl.col(name).is_null()).then(raw), tried[turn]).alias(name)
            for name, tried in live.items()
            if turn < len(tried)
        ]
        found = _select(fields, values)
        fields = fields.with_columns(
            fields[name].zip_with(fields[name].is_not_null(), found[name]) for name in found.columns
        )
    split = pl.col("message").is_not_null()
    return fields.with_columns(
        # Fluent Bit and Docker keep the line feed at the end.
        pl.col("message").str.strip_chars_end("\r\n"),
        *(pl.when(split).then(name).alias(name) for name in wanted if name != "message"),
    )


def _value(raw: pl.Expr, path: Steps) -> pl.Expr:
    import polars as pl

    value = raw.str.json_path_match(json_path(path))
    for excess in excess_paths(path):
        value = pl.when(raw.str.json_path_match(excess).is_null()).then(value)
    return value


def _select(frame: pl.DataFrame, expressions: list[pl.Expr]) -> pl.DataFrame:
    """Evaluates expressions on all cores; Polars' default engine takes one for each expression."""
    if frame.height < _ENOUGH_TO_SHARE:
        return frame.select(expressions)
    return frame.lazy().select(expressions).collect(engine="streaming")
