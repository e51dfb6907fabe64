"""Raw lines to the fields of a profile, all strings: by patterns, or by paths into JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from crosyslog.systems.heads import HEAD, short_cut
from crosyslog.systems.json_paths import (
    Elements,
    Path,
    Step,
    Steps,
    excess_paths,
    json_path,
    keys_of,
    parse_path,
)
from crosyslog.systems.profile import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Collection

    import polars as pl

    from crosyslog.systems.heads import ShortCut
    from crosyslog.systems.profile import Paths, System

#: The severities of syslog by their number (RFC 5424, 6.2.1), in words that events know.
_SEVERITIES = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")

#: The severity of each PRI: the highest is facility 23, severity 7.
_PRIORITIES = {str(priority): _SEVERITIES[priority % 8] for priority in range(192)}

#: OpenTelemetry's severities: by number (1 to 24), and by the number's name in protocol buffers.
_NUMBERED = {
    key: word
    for start, word in enumerate(("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"))
    for place in range(4)
    for key in (str(start * 4 + place + 1), f"SEVERITY_NUMBER_{word}{place + 1 if place else ''}")
}

#: The most elements that `[*]` means: a line with more says too much to be judged as one.
_MOST_ELEMENTS = 8

#: From this many lines on, both cores together are faster than one: 1.6 times on two.
_ENOUGH_TO_SHARE = 2_000


def fields_of(raw: pl.Series, system: System, wanted: Collection[str] = COLUMNS) -> pl.DataFrame:
    """What the profile finds in each line.

    Args:
        raw: strings named `raw`.
        system: the profile.
        wanted: the fields that are needed, among `COLUMNS`, the message always being one; each
            takes its time.

    Returns:
        `raw`, and the wanted strings, null where the line does not have one. A line whose
        `message` is null did not split, and all its other fields are null too.
    """
    import polars as pl

    frame = raw.to_frame()
    names = [name for name in COLUMNS if name in wanted or name == "message"]
    if system.paths is not None:
        fields = _by_paths(frame, system.paths, names)
    else:
        fields = frame
        for number, pattern in enumerate(system.patterns):
            if not number:
                fields = frame.hstack(_by_pattern(frame, pattern, names))
            elif fields["message"].has_nulls():
                fields = _filled(fields, pattern, names)
    changes = {name: pl.lit(None, dtype=pl.String) for name in names if name not in fields.columns}
    if system.session is not None and "session" in names:
        grouped = pl.select(pl.lit("").str.extract_groups(system.session)).item() != {}
        session = pl.col("raw").str.extract(system.session, int(grouped))
        if not system.judges_whole:
            session = pl.when(pl.col("message").is_not_null()).then(session)
        changes["session"] = session
    if "severity" not in names:
        pass
    elif system.severity.priority:
        changes["severity"] = pl.col("severity").replace_strict(_PRIORITIES, default=None)
    elif system.severity.words:
        changes["severity"] = pl.col("severity").replace(system.severity.words)
    return fields.select("raw", *(changes.get(name, pl.col(name)).alias(name) for name in names))


def _filled(fields: pl.DataFrame, pattern: str, names: list[str]) -> pl.DataFrame:
    """The columns with those of the lines filled in that have no message yet."""
    import polars as pl

    # A line that has matched is null here, so that it costs nothing.
    lines = fields.select(pl.when(pl.col("message").is_null()).then("raw").alias("raw"))
    found = _by_pattern(lines, pattern, names)
    return fields.with_columns(
        fields[name].zip_with(fields[name].is_not_null(), found[name])
        if name in fields
        else found[name]
        for name in found.columns
    )


def _by_pattern(lines: pl.DataFrame, pattern: str, names: list[str]) -> pl.DataFrame:
    """The wanted columns that a pattern has."""
    cut = short_cut(pattern, frozenset(names))
    if cut is not None and cut.before:
        found = _in_two_steps(lines, pattern, cut)
    else:
        found = _groups(lines, cut.after if cut is not None else pattern)
    return found[[name for name in found.columns if name in names]]


def _in_two_steps(lines: pl.DataFrame, pattern: str, cut: ShortCut) -> pl.DataFrame:
    """The groups of a short cut, and the message."""
    import polars as pl

    raw, left = pl.col("raw"), pl.col("left")
    # Without groups, what matches is found fast, and replaced by nothing.
    lefts = lines.lazy().select(raw, raw.str.replace(cut.before, "").alias("left"))
    shorter = left.str.len_bytes() < raw.str.len_bytes()
    rest = lefts.select(pl.when(shorter).then(left).alias("raw"))
    if not cut.after:
        return _collect(rest, lines.height).rename({"raw": "message"})
    found = _collect(_by_groups(rest, cut.after), lines.height)
    # What matches the first half in another way may match the second half then.
    doubtful = found["message"].is_null() & found["raw"].is_not_null()
    if doubtful.any():
        whole = _groups(lines.select(pl.when(doubtful).then(raw).alias("raw")), pattern)
        found = found.select(
            found[name].zip_with(~doubtful, whole[name])
            for name in found.columns
            if name in whole and name != "raw"
        )
    return found


def _groups(lines: pl.DataFrame, pattern: str) -> pl.DataFrame:
    """The column `raw`, and one for each group of a pattern, null where it does not match."""
    return _collect(_by_groups(lines.lazy(), pattern), lines.height)


def _by_groups(lines: pl.LazyFrame, pattern: str) -> pl.LazyFrame:
    import polars as pl

    raw = pl.col("raw")
    found = lines.select(raw, raw.str.extract_groups(pattern).alias("found")).unnest("found")
    if f"(?P<{HEAD}>" not in pattern:
        return found
    behind = raw.cast(pl.Binary).bin.slice(pl.col(HEAD).str.len_bytes())
    return found.with_columns(behind.cast(pl.String).alias("message"))


def _by_paths(frame: pl.DataFrame, paths: Paths, names: list[str]) -> pl.DataFrame:
    """The value at the first path that has one.

    Each path reads the line's JSON anew, so only those are tried whose keys some line holds.
    """
    import polars as pl

    wanted = {
        name: [parse_path(path) for path in getattr(paths, name)]
        for name in names
        if getattr(paths, name)
    }
    live = _that_may_lead_somewhere(frame, wanted)
    fields = frame.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in wanted)
    places = {path.elements for tried in live.values() for path in tried} - {()}
    elements = {place: _elements(frame, place) for place in sorted(places, key=repr)}
    texts = {place: f"at {number}" for number, place in enumerate(elements)}
    fields = fields.with_columns(only.alias(texts[place]) for place, (only, _) in elements.items())
    for turn in range(max(map(len, live.values()))):
        trials = {
            name: tried[turn]
            for name, tried in live.items()
            if turn < len(tried) and fields[name].has_nulls()
        }
        values = [
            _value(
                pl.when(pl.col(name).is_null()).then(pl.col(texts.get(path.elements, "raw"))), path
            ).alias(name)
            for name, path in trials.items()
        ]
        found = _select(fields, values)
        for name, path in trials.items():
            held = fields[texts.get(path.elements, "raw")]
            value = _what_counts(name, found[name], held, path)
            several = elements[path.elements][1] if path.elements else None
            if several is not None:
                value = value.zip_with(
                    value.is_not_null(), _joined(name, several, path, fields.height)
                )
            fields = fields.with_columns(fields[name].zip_with(fields[name].is_not_null(), value))
    split = pl.col("message").is_not_null()
    return fields.with_columns(
        # Fluent Bit and Docker keep the line feed at the end.
        pl.col("message").str.strip_chars_end("\r\n"),
        *(pl.when(split).then(name).alias(name) for name in wanted if name != "message"),
    )


def _that_may_lead_somewhere(
    frame: pl.DataFrame, wanted: dict[str, list[Path]]
) -> dict[str, list[Path]]:
    """The paths of which every key stands in some line."""
    import polars as pl

    live = wanted
    held: dict[str, bool] = {}
    # Most paths are out by their first key: the other keys are not looked for.
    for depth in (1, None):
        keys = {
            key for tried in live.values() for path in tried for key in keys_of(path)[:depth]
        } - set(held)
        contained = [
            # A key of other letters may stand there as \u escapes.
            (
                pl.col("raw").str.contains(f'"{key}"', literal=True)
                if key.isascii()
                else pl.lit(value=True)
            )
            .any()
            .alias(key)
            for key in sorted(keys)
        ]
        if contained:
            held |= _select(frame, contained).row(0, named=True)
        live = {
            name: [path for path in tried if all(held.get(key, True) for key in keys_of(path))]
            for name, tried in live.items()
        }
    return live


def _elements(frame: pl.DataFrame, place: Steps) -> tuple[pl.Series, pl.DataFrame | None]:
    """The elements of arrays as JSON text.

    Returns:
        Of each line the only one, and a frame of `line` and `text` of the lines that have
        several, if they are wanted and there are any.
    """
    import polars as pl

    raw = pl.col("raw")
    whole = frame.select(raw)
    if (key := str(place[0])).isascii():
        # Lines of other shippers need not be read.
        whole = frame.select(pl.when(raw.str.contains(f'"{key}"', literal=True)).then(raw))
    found = _select(
        whole,
        [raw.str.json_path_match(json_path(place)).alias("first")]
        + [raw.str.json_path_match(path).alias(path) for path in excess_paths(place)],
    )
    more = found.select(pl.any_horizontal(pl.exclude("first").is_not_null())).to_series()
    only = found.select(pl.when(~more).then("first")).to_series()
    if Elements.ALL not in place or not more.any():
        return only, None
    texts = whole.with_row_index("line").filter(more).rename({"raw": "text"})
    head: list[Step] = []
    for step in place:
        if not isinstance(step, Elements):
            head.append(step)
            continue
        last = 1 if step is Elements.ONLY else _MOST_ELEMENTS
        text = pl.col("text")
        texts = (
            texts.filter(text.str.json_path_match(json_path((*head, last))).is_null())
            .select(
                "line",
                pl.concat_list(
                    text.str.json_path_match(json_path((*head, number))) for number in range(last)
                ),
            )
            .explode("text")
            .drop_nulls()
        )
        head = []
    texts = texts.filter(pl.len().over("line") <= _MOST_ELEMENTS)
    return only, texts if texts.height else None


def _value(text: pl.Expr, path: Path) -> pl.Expr:
    return text.str.json_path_match(json_path(path.steps)) if path.steps else text


def _what_counts(name: str, values: pl.Series, texts: pl.Series, path: Path) -> pl.Series:
    """Values in words, and null where what stands there is none."""
    import polars as pl

    if values.null_count() == len(values):
        return values
    if name != "message":
        # OTLP writes 0 for a time that is not known.
        values = _without(values, values.is_in(["", "0"] if name == "time" else [""]))
    if path.reading == "json":
        return _without(values, values.is_in(["{}", "[]"]))
    if path.reading is not None:
        words = _PRIORITIES if path.reading == "priority" else _NUMBERED
        return values.replace_strict(words, default=None, return_dtype=pl.String)
    return _without(values, _are_containers(values, texts, path.steps))


def _are_containers(values: pl.Series, texts: pl.Series, steps: Steps) -> pl.Series:
    """Which values are objects or lists, and no strings that look like one."""
    import polars as pl

    alike = (values.str.starts_with("{") & values.str.ends_with("}")) | (
        values.str.starts_with("[") & values.str.ends_with("]")
    )
    if not steps or not alike.any():
        return alike
    # The text of an object stands in the text of what holds it as it is; that of a string has
    # a quote in front, and escapes.
    key = steps[-1]
    starts = [f"{json.dumps(key, ensure_ascii=False)}:"] if isinstance(key, str) else ["[", ","]
    suspects = pl.DataFrame({"holder": texts, "value": values}).select(
        pl.when(alike).then("holder").str.json_path_match(json_path(steps[:-1])).alias("holder"),
        pl.when(alike).then("value").alias("value"),
    )
    return suspects.select(
        pl.any_horizontal(
            pl.col("holder").str.contains(pl.lit(start) + pl.col("value"), literal=True)
            for start in starts
        )
    ).to_series()


def _without(values: pl.Series, these: pl.Series) -> pl.Series:
    import polars as pl

    return pl.select(pl.when(~these.fill_null(value=False)).then(values)).to_series()


def _joined(name: str, several: pl.DataFrame, path: Path, height: int) -> pl.Series:
    """The values in a line's elements as one, for as many lines; null where there is none.

    A message is that of every element, and no longer than what is judged of it: nothing that a
    line says is lost without being counted.
    """
    import polars as pl

    from crosyslog.masking import MAX_CHARACTERS

    texts = several["text"]
    values = several.select(_value(pl.col("text"), path)).to_series()
    values = _what_counts(name, values, texts, path).str.strip_chars_end("\r\n")
    value, whole = pl.col("value"), pl.lit(value=True)
    joined = value.drop_nulls().unique(maintain_order=True).str.join(" ")
    if name == "message":
        joined = value.str.join("\n", ignore_nulls=False)
        whole = value.str.len_chars() <= MAX_CHARACTERS
    elif name == "time":
        joined = value.drop_nulls().first()
    return (
        several.with_columns(values.alias("value"))
        .group_by("line")
        .agg(joined)
        .filter(whole & (value != ""))
        .join(
            pl.select(pl.arange(height).alias("line")),
            on="line",
            how="right",
            maintain_order="right",
        )["value"]
    )


def _select(frame: pl.DataFrame, expressions: list[pl.Expr]) -> pl.DataFrame:
    return _collect(frame.lazy().select(expressions), frame.height)


def _collect(query: pl.LazyFrame, lines: int) -> pl.DataFrame:
    """Evaluates on all cores; Polars' default engine takes one for each expression."""
    import polars as pl

    alone = lines < _ENOUGH_TO_SHARE or pl.thread_pool_size() == 1
    return query.collect(engine="in-memory" if alone else "streaming")
