"""When and where alerts strike, and benign bursts with them.

Places in a log are counted in its routine lines, in 4,096ths of the way from one to the next:
alerts are put between routine lines, so their number is exact and they take no one's place.
Everything is planned a little ahead of the place that is being written, so that a log of any
length needs the memory of the few storms under way.
"""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from trainer.simulation.draws import Draws, Purpose
from trainer.simulation.roster import AlertFamily, Roster, Template
from trainer.simulation.slots import SLOT_BITS

PLACE_BITS = 12

# The bits of a draw that fill the source's slot and the first one of the message.
_FIRST_SLOTS = (1 << 2 * SLOT_BITS) - 1

# The opening: someone who labels the first 1,000 lines labels around an incident, so a few
# families strike there, with this many alerts or as many as the rate asks for.
_OPENING_ROUTINE = 850
_OPENING_ALERTS = 90
_OPENING_SHARES = (48, 30, 17)  # percent of these alerts by family; what is left comes alone

# A precursor comes at most this many routine lines before its storm; the plan is further ahead.
_PRECURSOR_LEAD = 300
_PLAN_LEAD = 400

# Benign bursts take this share of the routine lines: not every burst is an incident.
_BURST_PERCENT = 6
_BURST_LINES = (6, 60)


class Placed(NamedTuple):
    """One line that a spell puts at a place in the log."""

    place: int
    serial: int
    template: Template
    host: int
    draw: int


class Schedule:
    """The spells of one log, planned in its order.

    Args:
        roster: the hosts and templates.
        routine: routine lines in the log.
        alerts: alert lines in the log.
        minute: routine lines in a minute, in the mean.
        seed: of all draws.
    """

    def __init__(
        self, roster: Roster, *, routine: int, alerts: int, minute: float, seed: int
    ) -> None:
        self._roster = roster
        self._routine = routine
        self._alerts = alerts
        self._minute = minute
        self._burst_over = roster.burst_over
        self._draws = Draws(seed, Purpose.SPELLS)
        self._serial = 0
        self._inserted: list[Placed] = []
        self._overlays: list[Placed] = []
        self._struck: set[int] = set()
        self._next_burst = 0
        self._opening = min(routine, _OPENING_ROUTINE)
        if routine < _OPENING_ROUTINE * 5 // 4:
            opening_alerts = alerts
        else:
            thousand = alerts * 1_000 // (alerts + routine)
            opening_alerts = min(alerts, max(thousand, min(alerts // 4, _OPENING_ALERTS)))
        self._to_come = alerts - opening_alerts
        self._left = self._to_come
        if opening_alerts:
            self._open_with_incident(opening_alerts)

    def until(self, line: int) -> tuple[list[Placed], list[Placed]]:
        """What has its place before a routine line and was not handed out yet, in order.

        Returns:
            benign lines that replace the routine line of their place, and alerts to put between.
        """
        while self._left and self._due() <= line + _PLAN_LEAD:
            self._strike(self._due())
        while self._next_burst < line:
            self._burst(self._next_burst)
        return _before(self._overlays, line), _before(self._inserted, line)

    def _due(self) -> int:
        """The routine line at which the next storm is due for an even rate of alerts."""
        # The last storm gets the last 3 % of the log to spend itself in.
        stretch = self._routine * 97 // 100 - self._opening
        return self._opening + stretch * (self._to_come - self._left) // self._to_come

    def _open_with_incident(self, alerts: int) -> None:
        first, *others = self._roster.families
        zone, left = self._opening, alerts
        for family, percent in zip(others, _OPENING_SHARES, strict=False):
            size = min(left, alerts * percent // 100)
            if size:
                start = zone * self._draws.between(4, 50) // 100
                span = zone * self._draws.between(10, 40) // 100
                self._storm(family, size, start, span)
                left -= size
        while left:
            size = min(left, 2 if alerts < 100 else alerts // 50)
            self._storm(first, size, self._draws.below(zone * 9 // 10 + 1), zone // 20 + 1)
            left -= size

    def _strike(self, line: int) -> None:
        draws = self._draws
        family = self._pick_family(line)
        if draws.chance(18):
            size, span = draws.between(1, 2), 5
        else:
            size = draws.low_biased(*family.entry.lines)
            span = int(draws.between(*family.entry.minutes) * self._minute)
        # In a short log no storm may take more than a twentieth of all alerts.
        size = min(size, max(4, self._alerts // 20), self._left)
        self._left -= size
        apart = self._routine * size // self._alerts
        start = min(line + draws.below(apart + 1), self._routine - 1)
        self._storm(family, size, start, min(span, self._routine // 4))

    def _pick_family(self, line: int) -> AlertFamily:
        families = [family for family in self._roster.families if family.onset <= line]
        unseen = [family for family in families if id(family) not in self._struck]
        if unseen and self._draws.chance(70):
            return unseen[0]
        place = self._draws.below(sum(family.entry.weight for family in families))
        for family in families:
            place -= family.entry.weight
            if place < 0:
                return family
        raise AssertionError("a place lies below the sum of the weights")

    def _storm(self, family: AlertFamily, size: int, start: int, span: int) -> None:
        """Put `size` alerts on a node or a few neighbours into `span` routine lines."""
        draws = self._draws
        self._struck.add(id(family))
        hosts = self._stricken(family, size)
        if family.precursors and draws.chance(60):
            for _ in range(draws.between(1, 4)):
                line = max(0, start - draws.between(5, _PRECURSOR_LEAD))
                template = draws.choice(family.precursors)
                self._put(self._overlays, line << PLACE_BITS, template, hosts[0], draws.bits())
        heads = _some(draws, family.messages)
        follow_ups = _some(draws, family.follow_ups) if draws.chance(75) else []
        # A node in trouble repeats itself word for word, and mostly speaks of one device or job:
        # that is the first slot of a message, filled by the draw's lowest bits.
        repeats = [draws.bits() for _ in range(3)]
        device = repeats[0] & _FIRST_SLOTS
        end = max(1, min(span, self._routine - start)) << PLACE_BITS
        places = sorted(draws.low_biased(0, end - 1) for _ in range(size))
        for n, place in enumerate(places):
            under_way = n * 4 > size
            pool = follow_ups if under_way and follow_ups and draws.chance(40) else heads
            template = pool[draws.low_biased(0, len(pool) - 1)]
            draw = draws.choice(repeats) if draws.chance(50) else draws.bits()
            if draws.chance(85):
                draw = draw & ~_FIRST_SLOTS | device
            at = (start << PLACE_BITS) + place
            self._put(self._inserted, at, template, draws.choice(hosts), draw)

    def _stricken(self, family: AlertFamily, size: int) -> Sequence[int]:
        """The hosts of a storm of `size` alerts: neighbours, or the partition of a job."""
        draws = self._draws
        if family.entry.partitions:
            return _partition(family.hosts, draws.choice(family.entry.partitions), draws.bits())
        width = min(draws.low_biased(*family.entry.nodes), len(family.hosts), max(1, size // 6))
        first = draws.below(len(family.hosts) - width + 1)
        return family.hosts[first : first + width]

    def _burst(self, line: int) -> None:
        """Put a benign burst of one daemon on one host over the routine lines from here on."""
        draws, roster = self._draws, self._roster
        size = draws.low_biased(*_BURST_LINES)
        self._next_burst = line + size * draws.between(50, 150) // _BURST_PERCENT
        present = [t for t in roster.benign if roster.onsets[t.number] <= line]
        leading = draws.choice(present)
        pool = [t for t in present if t.daemon == leading.daemon and t.hosts is leading.hosts]
        pool = [leading, *_some(draws, pool)[:2]]
        host = draws.choice(leading.hosts)
        span = draws.between(size, size * 12)
        peers: Sequence[int] = (host,)
        if self._burst_over != (1,):
            peers = roster.neighbours(host, draws.choice(self._burst_over))
        for place in sorted(draws.below(span) for _ in range(size)):
            if line + place < self._routine:
                template = pool[draws.low_biased(0, len(pool) - 1)]
                at = (line + place) << PLACE_BITS
                at_host = draws.choice(peers) if len(peers) > 1 else host
                self._put(self._overlays, at, template, at_host, draws.bits())

    def _put(
        self, heap: list[Placed], place: int, template: Template, host: int, draw: int
    ) -> None:
        # The serial number keeps lines of one place in the order in which they were planned.
        self._serial += 1
        heapq.heappush(heap, Placed(place, self._serial, template, host, draw))


def _some(draws: Draws, templates: list[Template]) -> list[Template]:
    """A storm shows one template of a family at least, mostly several, seldom all."""
    return draws.shuffled(templates)[: draws.between(min(2, len(templates)), len(templates))]


def _partition(hosts: Sequence[int], size: int, draw: int) -> Sequence[int]:
    """One of the parts of `size` that a machine is divided into."""
    first = draw % max(1, len(hosts) // size) * size
    return hosts[first : first + size]


def _before(heap: list[Placed], line: int) -> list[Placed]:
    due = []
    while heap and heap[0].place < line << PLACE_BITS:
        due.append(heapq.heappop(heap))
    return due
