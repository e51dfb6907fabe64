"""A catalogue made ready for one simulation: hosts, filled-in slots, frequencies, onsets."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from trainer.simulation.catalogue import Catalogue, Family
from trainer.simulation.draws import Draws, Purpose
from trainer.simulation.slots import (
    SLOT_BITS,
    TABLE_SIZE,
    SlotTables,
    format_of,
    slots_of,
)
from trainer.simulation.words import WORD_SLOTS, word

# Frequencies are whole numbers: parts of these sums. One benign line in 25 is an oddity, so that a
# log of 20,000 lines shows nearly all of them, as often as real logs show lines that are rare.
_ROUTINE_PARTS = 96_000_000
_ODDITY_PARTS = 4_000_000
# A daemon's leading message has this many parts of its routine, the n-th one n times fewer.
_FIRST_PARTS = 27_720

# Large enough that nearly every host of a large cluster is in its table.
HOST_TABLE_SIZE = 4_096

_SLOT_MASK = TABLE_SIZE - 1


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of the cluster: its name, and how a line shows it the second time."""

    name: str
    origin: str


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A message of a daemon, with all that is needed to write a line of it."""

    number: int
    daemon: str
    daemon_number: int
    label: str
    hosts: Sequence[int]
    """4,096 host numbers to draw from; a few hosts are chattier than the rest."""
    resident: bool
    """Whether the source's process id stays with the host."""
    body: str
    """Source and message as a format for the % operator."""
    fields: tuple[tuple[tuple[str, ...], int], ...]
    """For each slot its table, and which bits of the draw pick the entry."""
    words: tuple[tuple[int, str], ...]
    """The slots that a made-up name can fill: their places in `fields`, and their kinds."""

    def fill(self, host: int, draw: int) -> str:
        """Source and message, the slots filled by the 64 bits of `draw`.

        Above them, a draw may hold the number of a made-up name, counted from 1.
        """
        if self.resident:
            # Any odd factors will do: they spread hosts and daemons over the table.
            entry = (host * 61 + self.daemon_number) * 977 & _SLOT_MASK
            draw = draw & ~_SLOT_MASK | entry
        values = [table[draw >> shift & _SLOT_MASK] for table, shift in self.fields]
        if draw >> 64:
            for place, slot in self.words:
                values[place] = word(slot, (draw >> 64) - 1)
        return self.body % tuple(values)


@dataclass(frozen=True, slots=True, eq=False)
class AlertFamily:
    """A family of alerts with its templates."""

    entry: Family
    hosts: Sequence[int]
    """The hosts it can strike, in their order: neighbours stand side by side."""
    onset: int
    """The routine line from which it can strike."""
    messages: list[Template]
    follow_ups: list[Template]
    precursors: list[Template]


class Roster:
    """The hosts and templates of one simulation.

    Args:
        catalogue: the system.
        routine: how many routine lines the log will have; onsets are positions among them.
        late_templates: share of the benign templates that first appear later on.
        seed: of all draws.
    """

    def __init__(
        self, catalogue: Catalogue, *, routine: int, late_templates: float, seed: int
    ) -> None:
        self.templates: list[Template] = []
        self.weights: list[int] = []
        """Of the benign templates, which come first in `templates`."""
        self.onsets: list[int] = []
        self._catalogue = catalogue
        self.system = catalogue.system
        self.burst_over = catalogue.log.burst_over
        self._host_draws = Draws(seed, Purpose.HOSTS)
        self._roles: list[str] = []
        self._numbers: dict[str, list[int]] = {}
        self.hosts: list[Host] = []
        for group in catalogue.hosts:
            for name in group.names():
                self._numbers.setdefault(group.role, []).append(len(self.hosts))
                self.hosts.append(Host(name, group.origin.replace("{host}", name)))
                self._roles.append(group.role)
        self._host_tables: dict[tuple[str, ...], Sequence[int]] = {}
        # Nodes that a message speaks of are those that compute, if the system has such.
        nodes = tuple(self.hosts[i].name for i in self._hosts_of(("compute",)))
        self._slots = SlotTables(
            lambda number: Draws(seed, Purpose.SLOTS, number),
            nodes or tuple(host.name for host in self.hosts),
        )
        self._precursors: dict[tuple[str, str], Template] = {}
        # What is there from the first line: a daemon's leading message, for the log's rate would
        # jump when it appears, and the precursors, for a storm may need them at any time.
        self._lasting: set[int] = set()
        self._add_benign(Draws(seed, Purpose.FREQUENCIES))
        onset_draws = Draws(seed, Purpose.ONSETS)
        self._set_onsets(onset_draws, routine, late_templates)
        self.families = self._families(onset_draws, routine)

    @property
    def benign(self) -> list[Template]:
        """The templates of harmless lines."""
        return self.templates[: len(self.weights)]

    def neighbours(self, host: int, count: int) -> list[int]:
        """The part of `count` hosts, all of one role, that a host belongs to."""
        peers = self._numbers[self._roles[host]]
        first = (host - peers[0]) // count * count
        return peers[first : first + count]

    def _hosts_of(self, roles: tuple[str, ...]) -> list[int]:
        return sorted(chain.from_iterable(self._numbers.get(role, []) for role in roles))

    def _host_table(self, roles: tuple[str, ...]) -> Sequence[int]:
        if roles not in self._host_tables:
            hosts = self._host_draws.shuffled(self._hosts_of(roles))
            places = self._host_draws.low_biased_array(HOST_TABLE_SIZE, len(hosts))
            self._host_tables[roles] = [hosts[place] for place in places]
        return self._host_tables[roles]

    def _template(self, name: str, text: str, *, label: str, on: tuple[str, ...]) -> Template:
        source = self._catalogue.daemons[name].source
        # The lowest bits are the source's, whether it has a slot or not.
        fields = [(self._slots.table(slot), 0) for slot in slots_of(source)]
        words = []
        for number, slot in enumerate(slots_of(text), 1):
            if slot in WORD_SLOTS:
                words.append((len(fields), slot))
            fields.append((self._slots.table(slot), number * SLOT_BITS))
        template = Template(
            number=len(self.templates),
            daemon=name,
            daemon_number=list(self._catalogue.daemons).index(name),
            label=label,
            hosts=self._host_table(on),
            resident="own_pid" in slots_of(source),
            body=format_of(f"{source} {text}" if text else source),
            fields=tuple(fields),
            words=tuple(words),
        )
        self.templates.append(template)
        return template

    def _add_benign(self, draws: Draws) -> None:
        catalogue, normal = self._catalogue, self._catalogue.log.normal
        total = sum(catalogue.mix.values())
        for name, share in catalogue.mix.items():
            daemon = catalogue.daemons[name]
            ranks = sum(_FIRST_PARTS // rank for rank in range(1, len(daemon.routine) + 1))
            for rank, text in enumerate(daemon.routine, 1):
                template = self._template(name, text, label=normal, on=daemon.on)
                if rank == 1:
                    self._lasting.add(template.number)
                parts = _ROUTINE_PARTS * share * (_FIRST_PARTS // rank) // (ranks * total)
                self.weights.append(parts)
        rare = []
        for name in catalogue.mix:
            daemon = catalogue.daemons[name]
            for text in daemon.oddities:
                self._template(name, text, label=normal, on=daemon.on)
                rare.append(draws.between(30, 100))
        for family in catalogue.families:
            for text in family.precursors:
                name = family.announcer
                template = self._template(name, text, label=normal, on=family.on)
                self._precursors[name, text] = template
                self._lasting.add(template.number)
                # It also comes without a storm, so that it gives none away.
                rare.append(25)
        parts = sum(rare)
        self.weights += [_ODDITY_PARTS * weight // parts for weight in rare]

    def _set_onsets(self, draws: Draws, routine: int, late_templates: float) -> None:
        for template in self.benign:
            late = draws.below(10_000) < round(late_templates * 10_000)
            onset = routine * draws.between(12, 88) // 100
            self.onsets.append(onset if late and template.number not in self._lasting else 0)

    def _families(self, draws: Draws, routine: int) -> list[AlertFamily]:
        """The families in a random order; the second half of them strikes late."""
        entries = draws.shuffled(list(self._catalogue.families))
        families = []
        for place, entry in enumerate(entries):
            late = place >= (len(entries) + 1) // 2
            families.append(
                AlertFamily(
                    entry=entry,
                    hosts=self._hosts_of(entry.on),
                    onset=routine * draws.between(10, 75) // 100 if late else 0,
                    messages=[self._alert(entry, text) for text in entry.messages],
                    follow_ups=[self._alert(entry, text) for text in entry.follow_ups],
                    precursors=[
                        self._precursors[entry.announcer, text] for text in entry.precursors
                    ],
                )
            )
        return families

    def _alert(self, entry: Family, text: str) -> Template:
        return self._template(entry.daemon, text, label=entry.tag, on=entry.on)
