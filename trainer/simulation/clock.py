"""When the lines of a simulated log come, and how its clock shows it."""

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.simulation.draws import Draws

MICROSECONDS = 1_000_000

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# The time to the next routine line, in 1,024ths of its mean: exponential, as when many hosts log
# independently of one another. A table of whole numbers, since a logarithm's last bit differs
# between machines.
_GAP_TABLE_SIZE = 4_096
_GAPS = np.array(
    [round(-1_024 * math.log((i + 0.5) / _GAP_TABLE_SIZE)) for i in range(_GAP_TABLE_SIZE)],
    dtype=np.int64,
)


def times_after(
    now: int, draws: "Draws", count: int, *, gap: int, rhythm: tuple[int, ...]
) -> list[int]:
    """`now` and the `count` times that follow it at random, in microseconds.

    Args:
        now: in microseconds since 1970.
        draws: one is taken for each time.
        count: how many.
        gap: the mean time between two, in microseconds.
        rhythm: how many there are in each hour of the day (UTC), in percent.
    """
    percent = rhythm[now // (3_600 * MICROSECONDS) % 24]
    gaps = _GAPS[lowest(draws.array(count), _GAP_TABLE_SIZE)] * gap * 100 // (1_024 * percent)
    return [now, *(now + np.cumsum(gaps)).tolist()]


def lowest(draws: "NDArray[np.uint64]", size: int) -> "NDArray[np.int64]":
    """An entry of a table of `size`, a power of two, by the lowest bits of each draw."""
    return (draws & np.uint64(size - 1)).astype(np.int64)


class Clock:
    """Shows moments as the fields of a header, each second's once.

    Args:
        hours_from_utc: how far the clock is from UTC.
    """

    def __init__(self, hours_from_utc: int = 0) -> None:
        self._ahead = hours_from_utc * 3_600
        self._day = -1
        self._dated: dict[str, str] = {}

    def fields(self, second: int) -> dict[str, str]:
        """The fields of a header that show a second since 1970."""
        day, rest = divmod(second + self._ahead, 86_400)
        if day != self._day:
            # Not strftime, whose month names follow the locale.
            date = datetime.fromtimestamp(day * 86_400, UTC)
            self._day = day
            self._dated = {
                "ymd": f"{date.year:04d}.{date.month:02d}.{date.day:02d}",
                "short_date": f"{date.year % 100:02d}{date.month:02d}{date.day:02d}",
                "date": f"{date.year:04d}-{date.month:02d}-{date.day:02d}",
                "month": _MONTHS[date.month - 1],
                "day": str(date.day),
            }
        hour, minute, of_minute = rest // 3_600, rest // 60 % 60, rest % 60
        return {
            **self._dated,
            "epoch": str(second),
            "clock": f"{hour:02d}:{minute:02d}:{of_minute:02d}",
            "dotted": f"{hour:02d}.{minute:02d}.{of_minute:02d}",
            "short_clock": f"{hour:02d}{minute:02d}{of_minute:02d}",
        }
