"""The variable parts of templates: what a slot such as {ip} is filled with.

A slot is a table of 1,024 texts, made from the seed. Filling a template is then a look-up for
each slot, by 10 bits of the line's draw: 64 bits fill the source's slot and five of the message.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.simulation.draws import Draws

SLOT_BITS = 10
TABLE_SIZE = 1 << SLOT_BITS
MOST_SLOTS = 5
SOURCE_SLOTS = {"pid", "own_pid"}

_SLOT = re.compile(r"\{(\w*)\}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_USERS = _words("""
    root operator backup nightly amelie bjorn carmen dmitri elena farid greta hassan ingrid
    jorge katya liam mirela nadeem oksana pavel quentin rosa stefan tamsin ulrike viktor
    wanda xiomara yusuf zoltan
""")
_PROCESSES = _words("""
    python perl bash rsync find tar hydro lattice seismic molecule turbine climate gather
    reduce plasma mesh render solver
""")
_MODULES = _words("""
    bonding loop lockd autofs raid joydev sunrpc watchdog floppy parport
""")
_SERVICES = _words("""
    rsync shell exec login telnet auth amanda daytime chargen
""")
_QUEUES = _words("""
    batch debug long short standby weekend
""")
_VOLUMES = _words("""
    scratch-MDT scratch-OST home-MDT home-OST proj-OST
""")
_WORDS = _words("""
    alpha guest test oracle images mirror install weather public webmaster archive student
    demo printer support library
""")
_NOUNS = _words("""
    timeout quota policy binding migration spawning resize backing permission limit topology
""")
_DOMAINS = _words("""
    lab.example cluster.example campus.example partner.example mail.example
""")
_FOLDERS = _words("""
    /etc/cron.hourly /usr/local/sbin /var/spool/jobs /home /scratch1 /scratch2 /opt/tools
    /var/lib /boot/images /projects/fusion /usr/lib/site /var/stage
""")
_FILES = _words("""
    sweep collect.sh table.db run report.txt nodes.map kernel.img data check state inputs
    rotate.conf
""")


def _path(draws: "Draws") -> str:
    middle = draws.choice(("", f"/{draws.choice(_USERS)}", f"/set{draws.below(40)}"))
    return f"{draws.choice(_FOLDERS)}{middle}/{draws.choice(_FILES)}"


def _ip(draws: "Draws") -> str:
    return f"10.{draws.below(16)}.{draws.below(256)}.{draws.between(1, 254)}"


def _mac(draws: "Draws") -> str:
    return "00:0f:" + ":".join(f"{draws.below(256):02x}" for _ in range(4))


def _stamp(draws: "Draws") -> str:
    return f"{draws.below(24):02d}:{draws.below(60):02d}:{draws.below(60):02d}"


_MAKERS: dict[str, "Callable[[Draws], str]"] = {
    "pid": lambda d: str(d.between(300, 32_767)),
    "own_pid": lambda d: str(d.between(900, 4_200)),
    "num": lambda d: str(d.low_biased(2, 990)),
    "small": lambda d: str(d.low_biased(0, 15)),
    "big": lambda d: str(d.low_biased(1_000, 48_000_000)),
    "cpu": lambda d: str(d.below(4)),
    "level": lambda d: str(d.between(2, 4)),
    "temp": lambda d: str(d.between(19, 74)),
    "speed": lambda d: d.choice(("100", "1000", "1000")),
    "frac": lambda d: f"0.{d.low_biased(1, 90_000):06d}",
    "pct": lambda d: str(d.between(1, 99)),
    "secs": lambda d: f"{d.low_biased(0, 40)}.{d.below(1_000):03d}",
    "hex": lambda d: f"0x{d.bits() >> 32:08x}",
    "byte": lambda d: f"0x{d.below(256):02x}",
    "guid": lambda d: f"0x0005ad{d.bits() >> 24:010x}",
    "uid": lambda d: str(d.between(500, 9_400)),
    "ip": _ip,
    "port": lambda d: str(d.between(1_024, 65_000)),
    "mac": _mac,
    "fqdn": lambda d: f"{d.choice(_WORDS)}{d.below(60)}.{d.choice(_DOMAINS)}",
    "stamp": _stamp,
    "bus": lambda d: f"{d.below(8):02x}:{d.below(32):02x}.{d.below(4)}",
    "path": _path,
    "part": lambda d: f"sd{d.choice('abcd')}{d.between(1, 9)}",
    "iface": lambda d: f"eth{d.below(4)}",
    "job": lambda d: f"{d.between(10_000, 99_999)}.{d.choice(('batch', 'adm'))}1",
    "queueid": lambda d: f"{d.bits() >> 24:010X}",
    "msgid": lambda d: f"<{d.bits() >> 32}.{d.below(90_000)}@{d.choice(_DOMAINS)}>",
    "rack": lambda d: f"[rack {d.choice('ABCDE')}{d.between(1, 8)}]",
    "volume": lambda d: f"{d.choice(_VOLUMES)}{d.below(16):04x}",
    # Words in variable places: masking keeps them, so that one message shows as several templates.
    "user": lambda d: d.choice(_USERS),
    "process": lambda d: d.choice(_PROCESSES),
    "module": lambda d: d.choice(_MODULES),
    "service": lambda d: d.choice(_SERVICES),
    "queue": lambda d: d.choice(_QUEUES),
    "word": lambda d: d.choice(_WORDS),
    "disk": lambda d: f"sd{d.choice('aaaabbcd')}",
    "idedisk": lambda d: f"hd{d.choice('aaabc')}",
    # Bytes that are no UTF-8, as surrogates that the writer turns back: real logs hold some.
    "noise": lambda d: "".join(chr(0xDC80 + d.below(128)) for _ in range(d.between(2, 6))),
}
_NEEDS_HOSTS = "node"

# Those that came later: a slot's place in the list is its stream, and must stay as it is.
_LATER_MAKERS: dict[str, "Callable[[Draws], str]"] = {
    "thread": lambda d: str(d.low_biased(11, 19_000)),
    "apipid": lambda d: str(25_740 + d.below(4)),
    "daemonpid": lambda d: str(1_988 + d.below(2)),
    "noun": lambda d: d.choice(_NOUNS),
    "partition": lambda d: f"R{d.below(8)}{d.below(8)}-M{d.below(2)}",
    "card": lambda d: f"R{d.below(8)}{d.below(8)}-M{d.below(2)}-N{d.below(16):X}",
    "axis": lambda d: d.choice("xyz"),
    "torus": lambda d: f"({d.below(32)},{d.below(32)},{d.below(64)})",
    "dcr": lambda d: f"0x{d.below(1 << 12):04x}",
    "serial": lambda d: f"203231503833343000000000594c31304b34{d.below(1 << 40):012x}",
}
_ALL_MAKERS = {**_MAKERS, **_LATER_MAKERS}


def slots_of(text: str) -> list[str]:
    """The slots of a template, in their order."""
    return _SLOT.findall(text)


def unknown_slots(text: str) -> list[str]:
    """The slots of a template that nothing can fill; a stray brace shows as an empty name."""
    slots = [slot for slot in slots_of(text) if slot not in _ALL_MAKERS and slot != _NEEDS_HOSTS]
    stray = _SLOT.sub("", text)
    return slots + [""] * ("{" in stray or "}" in stray)


def format_of(text: str) -> str:
    """The template as a format for the % operator, one %s a slot."""
    return _SLOT.sub("%s", text.replace("%", "%%"))


class SlotTables:
    """The tables of one simulation, made when they are first asked for.

    Args:
        draws: gives each table its own stream by the slot's place in the list of slots.
        nodes: what {node} names.
    """

    def __init__(self, streams: "Callable[[int], Draws]", nodes: tuple[str, ...]) -> None:
        self._streams = streams
        self._nodes = nodes
        slots = (*_MAKERS, _NEEDS_HOSTS, *_LATER_MAKERS)
        self._numbers = {slot: number for number, slot in enumerate(slots)}
        self._tables: dict[str, tuple[str, ...]] = {}

    def table(self, slot: str) -> tuple[str, ...]:
        """The 1,024 texts of a slot."""
        if slot not in self._tables:
            draws = self._streams(self._numbers[slot])
            if slot == _NEEDS_HOSTS:
                texts = (draws.choice(self._nodes) for _ in range(TABLE_SIZE))
            else:
                make = _ALL_MAKERS[slot]
                texts = (make(draws) for _ in range(TABLE_SIZE))
            self._tables[slot] = tuple(texts)
        return self._tables[slot]
