"""How the time of a line is read: seconds of an epoch, or a chrono format, with or without year."""

from __future__ import annotations

import re
from calendar import isleap
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

#: Numbers that count from 1970, and how many make a second.
EPOCHS = {"epoch": 1, "epoch-ms": 1_000, "epoch-us": 1_000_000, "epoch-ns": 1_000_000_000}

#: Seconds since 1970 of the years 1 to 9999: Python's datetime and RFC 3339 know no others.
_FIRST, _LAST = -62_135_596_800, 253_402_300_799

#: What in a chrono format says the year, and what says a weekday.
_YEAR = re.compile(r"%[-_0]?[YyCGgDFxcsv+]")
_WEEKDAY = re.compile(r"%[aAuw]")

#: A leap day, so that a format which takes the month for the day or loses one is found out.
_SAMPLE = datetime(2024, 2, 29, 13, 14, 15, tzinfo=UTC)

#: A time without a year may lie in the future by this much: clocks and time zones differ.
_AHEAD = timedelta(days=1)


def read_times(texts: pl.Series, formats: Sequence[str], now: datetime | None = None) -> pl.Series:
    """The times that texts say: of several formats, the first that reads a text.

    A time without a year gets the latest one with which it lies at most a day after `now`.

    Args:
        texts: strings.
        formats: keys of `EPOCHS`, or chrono formats.
        now: for times without a year; by default the clock's.

    Returns:
        Times in UTC, in microseconds; null where no format reads the text, or where no calendar
        knows the year (1 to 9999).
    """
    import polars as pl

    now = now or datetime.now(UTC)
    rest = texts.to_frame("text")
    times = rest.select(_read(formats[0], now)).to_series()
    for how in formats[1:]:
        if times.null_count() == texts.null_count():
            break
        # The texts that have been read are null in `rest`, so that they cost nothing.
        rest = rest.select(pl.when(times.is_null()).then("text").alias("text"))
        times = times.zip_with(times.is_not_null(), rest.select(_read(how, now)).to_series())
    return times.rename("time")


def format_fault(how: str) -> str | None:
    """What is wrong with a format, in words; nothing if it reads what it writes."""
    import polars as pl

    if how in EPOCHS:
        return None
    if "%f" in how:
        return "reads %f as nanoseconds: write %.f with the dot, or %3f, %6f or %9f"
    yearless = _YEAR.search(how) is None
    if yearless and _WEEKDAY.search(how):
        return "has a weekday and no year, so it cannot be read"
    whole = "%Y " + how if yearless else how
    try:
        # `%#z` can be read and not written.
        written = pl.Series([_SAMPLE]).dt.strftime(whole.replace("%#z", "%z"))
        read = written.cast(pl.String).str.to_datetime(whole, time_unit="us", strict=False)
    except pl.exceptions.PolarsError:
        return "is no chrono format, and none of " + ", ".join(EPOCHS)
    if read.dt.date().to_list() != [_SAMPLE.date()]:
        return "does not say a day that can be read: it needs a month and a day"
    return None


def _read(how: str, now: datetime) -> pl.Expr:
    """The column `text` read in one format."""
    import polars as pl

    text = pl.col("text")
    if how in EPOCHS:
        return _since_1970(text, EPOCHS[how])
    if _YEAR.search(how) is None:
        # 2000 has a leap day.
        dated = pl.concat_str(pl.lit("2000 "), text)
        return _in_latest_year(
            dated.str.to_datetime("%Y " + how, time_unit="us", strict=False), now
        )
    parsed = text.str.to_datetime(how, time_unit="us", strict=False)
    known = pl.when(parsed.dt.year().is_between(1, 9999)).then(parsed)
    return known.dt.replace_time_zone("UTC")


def _since_1970(text: pl.Expr, a_second: int) -> pl.Expr:
    import polars as pl

    whole = text.cast(pl.Int64, strict=False)
    first, last = max(_FIRST * a_second, -(2**63)), min(_LAST * a_second, 2**63 - 1)
    known = pl.when(whole.is_between(first, last)).then(whole)
    # 64 bits hold microseconds of every year, but no nanoseconds after 2262.
    micros = known // 1_000 if a_second > 1_000_000 else known * (1_000_000 // a_second)
    if a_second == 1:
        # Fluent Bit and others write a fraction; a float still holds a microsecond of today.
        parts = pl.when(whole.is_null()).then(text).cast(pl.Float64, strict=False)
        parts = pl.when(parts.is_between(_FIRST, _LAST)).then(parts)
        micros = pl.coalesce(micros, (parts * 1e6).round().cast(pl.Int64))
    return pl.from_epoch(micros, "us").dt.replace_time_zone("UTC")


def _in_latest_year(of_2000: pl.Expr, now: datetime) -> pl.Expr:
    """Times of the year 2000 moved to the latest year that is not far in the future."""
    import polars as pl

    limit = (now + _AHEAD).astimezone(UTC).replace(tzinfo=None)
    year = pl.when(of_2000 <= limit.replace(year=2000)).then(limit.year).otherwise(limit.year - 1)
    leap_day = (of_2000.dt.month() == 2) & (of_2000.dt.day() == 29)
    year = (
        pl.when(leap_day & (year == limit.year))
        .then(_leap_year(limit.year))
        .when(leap_day)
        .then(_leap_year(limit.year - 1))
        .otherwise(year)
    )
    return pl.datetime(
        year,
        of_2000.dt.month(),
        of_2000.dt.day(),
        of_2000.dt.hour(),
        of_2000.dt.minute(),
        of_2000.dt.second(),
        of_2000.dt.microsecond(),
        time_unit="us",
        time_zone="UTC",
    )


def _leap_year(year: int) -> int:
    """The year, or the latest before it that has a leap day."""
    return next(before for before in range(year, 0, -1) if isleap(before))
