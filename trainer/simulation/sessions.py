"""The lines of a simulated log whose labels belong to sessions, as HDFS's blocks.

A session is planned as a whole when it begins, and its lines wait until their time has come:
thousands of sessions are under way at once, and memory holds these and no more.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from crosyslog.errors import SettingError
from trainer.simulation.clock import MICROSECONDS, Clock, times_after
from trainer.simulation.draws import Draws, Purpose
from trainer.simulation.lives import Line, Lives
from trainer.simulation.session_catalogue import load_session_catalogue
from trainer.simulation.settings import Settings
from trainer.simulation.stream import Block

# Part of what defines a log's bytes: sessions that begin before their lines are sorted.
_BATCH = 64

# So many batches hold a burst: a job that makes some sessions at once.
_BURST_PERCENT = 40
_BURST_SESSIONS = (6, 30)

# A short log gets fewer sessions a second, so that its sessions overlap as those of a long one,
# and do not all begin before the first one ends.
_SHORTEST_SPAN = 7_200


class SessionSimulation:
    """A log whose labels belong to sessions; it can be written once or many times.

    Raises:
        SystemProfileError: the system's file is wrong.
        SettingError: it is asked for made-up names, for which its lines have no places.
    """

    def __init__(self, system: str, settings: Settings) -> None:
        if settings.templates is not None:
            raise SettingError(
                f"--templates {settings.templates}: lines of {system} hold no names that vary; "
                "leave it out, or choose a system such as thunderbird"
            )
        self._catalogue = load_session_catalogue(system)
        self._settings = settings

    def blocks(self) -> Iterator[Block]:
        """The log from its first line to its last."""
        log, settings = self._catalogue.log, self._settings
        lives = Lives(self._catalogue, settings)
        clock = Clock()
        draws = Draws(settings.seed, Purpose.LINES)
        gap = max(
            round(MICROSECONDS / log.sessions_per_second),
            _SHORTEST_SPAN * MICROSECONDS // lives.expected,
        )
        now = int(log.begins.timestamp()) * MICROSECONDS
        waiting: list[Line] = []
        begun: list[tuple[str, bool]] = []
        kinds: Counter[str] = Counter()
        hosts: set[int] = set()
        while lives.left:
            times = times_after(now, draws, _BATCH, gap=gap, rhythm=log.rhythm)
            if draws.chance(_BURST_PERCENT):
                _crowd(times, draws)
            for at, following in pairwise(times):
                session = lives.begin(at, following, waiting)
                if session is not None:
                    begun.append((session.name, session.anomalous))
                    kinds.update([session.kind] * session.anomalous)
                    hosts.update(session.hosts)
            now = times[-1]
            waiting.sort()
            # Nothing that is still to be planned comes before `now`.
            due = len(waiting) if not lives.left else _count_before(waiting, now)
            if due:
                lines, waiting = waiting[:due], waiting[due:]
                yield self._block(lines, clock, lives, kinds, hosts, tuple(begun))
                begun, kinds, hosts = [], Counter(), set()

    def _block(
        self,
        lines: list[Line],
        clock: Clock,
        lives: Lives,
        kinds: Counter[str],
        hosts: set[int],
        begun: tuple[tuple[str, bool], ...],
    ) -> Block:
        shown = []
        second = -1
        header = ""
        for line in lines:
            at, micros = divmod(line.time, MICROSECONDS)
            if at != second:
                second = at
                header = self._catalogue.log.header.format(
                    file="{0}", millis="{1:03d}", body="{2}", **clock.fields(at)
                )
            file = lives.events[line.event].file
            shown.append(header.format(file, micros // 1_000, line.body))
        shown.append("")
        return Block(
            text="\n".join(shown).encode("utf-8", "surrogateescape"),
            lines=len(lines),
            alerts=kinds,
            templates={line.event for line in lines},
            hosts=hosts,
            first=lines[0].time // MICROSECONDS,
            last=second,
            sessions=begun,
        )


def _crowd(times: list[int], draws: Draws) -> None:
    """Let some sessions in a row begin sixteen times as fast; the last time stays as it is."""
    length = draws.between(*_BURST_SESSIONS)
    first = draws.below(len(times) - length)
    for place in range(first, first + length):
        times[place] = times[first] + (times[place] - times[first]) // 16


def _count_before(waiting: list[Line], now: int) -> int:
    """How many of the lines, which are in the order of time, come before a time."""
    low, high = 0, len(waiting)
    while low < high:
        middle = (low + high) // 2
        if waiting[middle].time < now:
            low = middle + 1
        else:
            high = middle
    return low
