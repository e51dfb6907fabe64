"""Made-up names in variable places: what gives a log as many templates as it is asked for.

Masking hides numbers, paths and addresses, but not the name of a user, a program or a module: in
a real log it is these that make one message show as thousands of templates. Here the n-th name of
a slot is computed from n, so that no list of names is kept, and how many names each message has
shown so far is all that is remembered.
"""

from typing import TYPE_CHECKING

from crosyslog.errors import SettingError
from trainer.simulation.draws import Draws, Purpose

if TYPE_CHECKING:
    from trainer.simulation.roster import Roster
    from trainer.simulation.settings import Settings

# Slots that masking leaves as they are, so that a new name in one is a new template. The suffixes
# are what such names end in; none is a syllable, so that no two names of a slot are the same.
_SUFFIXES = {
    "user": ("", "", "", "_adm"),
    "process": ("", "_run", "_mpi", "_pp"),
    "module": ("", "fs", "_hw", "_drv"),
    "word": ("", "", "_old", "_tmp"),
    "service": ("", "d", "_proxy", "_ctl"),
    "queue": ("", "_q", "_night", "_short"),
}
WORD_SLOTS = frozenset(_SUFFIXES)

_SYLLABLES = tuple(
    consonant + vowel
    for consonant in (
        "b",
        "d",
        "g",
        "k",
        "l",
        "m",
        "n",
        "p",
        "r",
        "s",
        "t",
        "v",
        "z",
        "br",
        "kr",
        "st",
    )
    for vowel in "aeio"
)

# Of the lines with a name in them, at most this share shows a new one: a real log's names repeat.
_MOST_NEW_PERCENT = 60


def word(slot: str, number: int) -> str:
    """The name of a number: another one for each number, letters only."""
    suffixes = _SUFFIXES[slot]
    count = 3
    while number >> 6 * count:
        count += 1
    # An odd factor permutes the numbers of that many bits, so that neighbours do not look alike.
    scattered = number * 0x9E3779B1 & (1 << 6 * count) - 1
    syllables = [_SYLLABLES[scattered >> 6 * place & 63] for place in range(count)]
    return "".join(syllables) + suffixes[number % len(suffixes)]


class Vocabulary:
    """Decides which name a line shows, so that the log comes to hold the templates asked for.

    The number of names grows over the log, the faster the earlier. A line that shows no new name
    shows one that its message has shown before, the early ones far more often: a name's
    frequency falls with its rank as in Zipf's law.

    Args:
        roster: the hosts and templates.
        settings: with `templates`, the number of distinct masked templates to come to.
        routine: routine lines in the log.

    Raises:
        SettingError: the log cannot hold that many templates.
    """

    def __init__(self, roster: "Roster", settings: "Settings", *, routine: int) -> None:
        self._varied = [bool(template.words) for template in roster.templates]
        self._known = [0] * len(roster.templates)
        self._routine = routine
        self._draws = Draws(settings.seed, Purpose.WORDS)
        self.introduced = 0
        """Names shown so far, each counted once for every message that shows it."""
        asked = settings.templates or 0
        # The other templates are those whose variable places masking hides.
        self._names = max(0, asked - self._varied.count(False))
        wordy = sum(w for w, t in zip(roster.weights, roster.templates, strict=False) if t.words)
        most = routine * wordy // sum(roster.weights) * _MOST_NEW_PERCENT // 100
        if self._names > most:
            raise SettingError(
                f"--templates {asked}: {settings.lines:,} lines of {roster.system} hold "
                f"{most + self._varied.count(False):,} at most; ask for fewer, or for more lines"
            )

    def name(self, choices: list[tuple[int, int, int]], start: int) -> list[tuple[int, int, int]]:
        """Routine lines from `start` on, with a name's number above the 64 bits of their draws."""
        wordy = [place for place, choice in enumerate(choices) if self._varied[choice[0]]]
        due = self._due(start + len(choices)) - self.introduced
        new = max(0, min(due, len(wordy)))
        named = list(choices)
        draws = self._draws
        for turn, place in enumerate(wordy):
            template, host, draw = choices[place]
            known = self._known[template]
            if turn * new // len(wordy) != (turn + 1) * new // len(wordy):
                rank = known
                self._known[template] += 1
                self.introduced += 1
            elif known:
                # All ranks of an octave are equally likely, and all octaves are.
                octave = draws.below(known.bit_length())
                rank = (1 << octave) - 1 + draws.below(1 << octave)
                rank = rank if rank < known else rank >> 1
            else:
                continue
            named[place] = (template, host, draw | (rank + 1) << 64)
        return named

    def _due(self, line: int) -> int:
        """The names introduced before a line: at first half as fast again, at last half as fast."""
        routine = self._routine
        return self._names * line * (3 * routine - line) // (2 * routine * routine)
