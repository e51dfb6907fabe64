"""Which sessions of a simulated log are anomalous, how each one goes, and on which hosts."""

from trainer.simulation.draws import Draws, Purpose
from trainer.simulation.session_catalogue import Life, SessionCatalogue
from trainer.simulation.settings import Settings

# Anomalies are dealt out among so many sessions at a time, half of the times as a storm.
_LARGEST_DEAL = 256


class Deal:
    """Deals out lives, one for each session that begins.

    Args:
        catalogue: the system.
        settings: with the share of anomalous sessions.
        expected: about how many sessions the log will have.
        hosts: how many hosts there are.
    """

    def __init__(
        self, catalogue: SessionCatalogue, settings: Settings, expected: int, hosts: int
    ) -> None:
        self.expected = expected
        self._normal = catalogue.lives
        self._anomalies = catalogue.anomalies
        self._copies = catalogue.session.copies
        self._hosts = hosts
        self._draws = Draws(settings.seed, Purpose.SPELLS)
        host_draws = Draws(settings.seed, Purpose.HOSTS)
        shuffled = host_draws.shuffled(list(range(hosts)))
        # A few hosts are busier than the rest.
        self._busy = [shuffled[place] for place in host_draws.low_biased_array(4_096, hosts)]
        # In millionths, so that all is whole numbers.
        self._rate = round(settings.anomaly_rate * 1_000_000)
        self._size = max(8, min(_LARGEST_DEAL, expected // 8))
        self._begun = 0
        self._dealt: list[tuple[Life, int | None] | None] = []

    def next(self) -> tuple[Life, bool, tuple[int, ...]]:
        """A session's life, whether that is an anomaly, and its hosts."""
        if not self._dealt:
            self._dealt = self._next_deal()
        draws = self._draws
        dealt = self._dealt.pop()
        if dealt is None:
            return _weighted(draws, self._normal), False, self._hosts_from(None)
        life, culprit = dealt
        return life, True, self._hosts_from(culprit)

    def _hosts_from(self, first: int | None) -> tuple[int, ...]:
        """The hosts of a session, each another one."""
        hosts = [] if first is None else [first]
        while len(hosts) < self._copies:
            host = self._draws.choice(self._busy)
            if host not in hosts:
                hosts.append(host)
        return tuple(hosts)

    def _due(self, sessions: int) -> int:
        """Anomalous sessions among the first ones."""
        due = self._rate * sessions // 1_000_000
        if self._rate * self.expected < 12_000_000:
            return due
        # Someone who labels a log's first lines shall find some, and the rest come later.
        return max(due, min(4, 4 * self._rate * sessions // 1_000_000))

    def _next_deal(self) -> list[tuple[Life, int | None] | None]:
        draws, size = self._draws, self._size
        count = self._due(self._begun + size) - self._due(self._begun)
        first = self._begun == 0
        self._begun += size
        deal: list[tuple[Life, int | None] | None] = [None] * size
        if count and not first and draws.chance(50):
            # One host in trouble, and what it does to the sessions that meet it.
            storm = (_weighted(draws, self._anomalies), draws.below(self._hosts))
            start = draws.below(size - count + 1)
            deal[start : start + count] = [storm] * count
            return deal
        kinds = draws.shuffled(list(self._anomalies))
        places = draws.shuffled(list(range(size)))[:count]
        for turn, place in enumerate(places):
            deal[place] = (kinds[turn] if turn < len(kinds) else _weighted(draws, kinds), None)
        return deal


def _weighted(draws: Draws, lives: tuple[Life, ...] | list[Life]) -> Life:
    place = draws.below(sum(life.weight for life in lives))
    for life in lives:
        place -= life.weight
        if place < 0:
            return life
    raise AssertionError("a place lies below the sum of the weights")
