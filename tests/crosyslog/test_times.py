from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.systems.times import EPOCHS, format_fault, read_times

RFC_3164 = "%b %e %H:%M:%S"


def read(text: str | None, *formats: str, now: str = "2024-06-15") -> str | None:
    series = pl.Series([text], dtype=pl.String)
    times = read_times(series, formats, datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert times.dtype == pl.Datetime("us", "UTC")
    time = times.to_list()[0]
    return None if time is None else time.isoformat().removesuffix("+00:00")


@pytest.mark.parametrize(
    ("text", "now", "time"),
    [
        ("Jun 15 08:00:00", "2024-06-15T08:00:00", "2024-06-15T08:00:00"),
        ("Jun  5 08:00:00", "2024-06-15T08:00:00", "2024-06-05T08:00:00"),
        # A clock that is ahead, and no more than a day.
        ("Jun 16 08:00:00", "2024-06-15T08:00:00", "2024-06-16T08:00:00"),
        ("Jun 16 08:00:01", "2024-06-15T08:00:00", "2023-06-16T08:00:01"),
        # Over New Year, in both directions.
        ("Dec 31 23:59:59", "2024-01-01T00:00:01", "2023-12-31T23:59:59"),
        ("Jan  1 00:00:01", "2023-12-31T23:59:59", "2024-01-01T00:00:01"),
        ("Jan  2 00:00:01", "2023-12-31T23:59:59", "2023-01-02T00:00:01"),
        # A leap day is of a leap year.
        ("Feb 29 12:00:00", "2024-02-29T12:00:00", "2024-02-29T12:00:00"),
        ("Feb 29 12:00:00", "2024-02-28T11:00:00", "2020-02-29T12:00:00"),
        ("Feb 29 12:00:00", "2023-07-01", "2020-02-29T12:00:00"),
        ("Feb 29 12:00:00", "2025-07-01", "2024-02-29T12:00:00"),
        ("Feb 29 12:00:00", "2103-07-01", "2096-02-29T12:00:00"),
        ("Mar  1 12:00:00", "2023-02-28T13:00:00", "2023-03-01T12:00:00"),
        ("Feb 30 12:00:00", "2024-06-15", None),
        ("Foo  1 12:00:00", "2024-06-15", None),
        ("Jun 15 25:00:00", "2024-06-15", None),
        ("", "2024-06-15", None),
        (None, "2024-06-15", None),
    ],
)
def test_a_time_without_a_year_is_of_the_latest_that_is_not_ahead(
    text: str | None, now: str, time: str | None
) -> None:
    assert read(text, RFC_3164, now=now) == time


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2199, 1, 1)),  # noqa: DTZ001 - made UTC below
    st.integers(-86_400, 363 * 86_400),
)
def test_a_line_that_is_read_within_a_year_gets_its_year_back(
    written: datetime, later: int
) -> None:
    written = written.replace(microsecond=0, tzinfo=UTC)
    now = datetime.fromtimestamp(written.timestamp() + later, UTC)
    spelt = pl.Series([f"{written:%b %d %H:%M:%S}"])
    assert read_times(spelt, [RFC_3164], now).to_list() == [written]


@pytest.mark.parametrize(
    ("text", "how", "time"),
    [
        ("1651820894", "epoch", "2022-05-06T07:08:14"),
        ("1651820894.000001", "epoch", "2022-05-06T07:08:14.000001"),
        ("1651820894250", "epoch-ms", "2022-05-06T07:08:14.250000"),
        ("1651820894000001", "epoch-us", "2022-05-06T07:08:14.000001"),
        ("1651820894000001999", "epoch-ns", "2022-05-06T07:08:14.000001"),
        ("-1", "epoch-ms", "1969-12-31T23:59:59.999000"),
        ("9223372036854775807", "epoch-ns", "2262-04-11T23:47:16.854775"),
        ("9223372036854775807", "epoch-us", None),
        ("9223372036854775808", "epoch-ns", None),
        ("-62135596801", "epoch", None),
        ("soon", "epoch", None),
        ("2022-05-06T07:08:14+02:00", "%+", "2022-05-06T05:08:14"),
        ("2022-05-06T07:08:14.5Z", "%+", "2022-05-06T07:08:14.500000"),
        ("220506 070814", "%y%m%d %H%M%S", "2022-05-06T07:08:14"),
        ("06/May/2022:07:08:14 -0100", "%d/%b/%Y:%H:%M:%S %z", "2022-05-06T08:08:14"),
        ("2022-05-06 07:08:14,250", "%Y-%m-%d %H:%M:%S,%3f", "2022-05-06T07:08:14.250000"),
    ],
)
def test_formats_read_what_they_say(text: str, how: str, time: str | None) -> None:
    assert format_fault(how) is None
    assert read(text, how) == time


def test_the_first_format_that_reads_a_text_does() -> None:
    texts = ["1651820894", "1651820894000", "2022-05-06T07:08:14Z", "x", None, "May  6 07:08:14"]
    now = datetime(2022, 6, 1, tzinfo=UTC)
    times = read_times(pl.Series(texts), ["%+", "epoch", *EPOCHS, RFC_3164], now).to_list()
    moment = datetime(2022, 5, 6, 7, 8, 14, tzinfo=UTC)
    assert times == [moment, moment, moment, None, None, moment]
    assert read_times(pl.Series([], dtype=pl.String), ["%+", "epoch"]).to_list() == []
