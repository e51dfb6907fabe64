"""As many distinct templates as are asked for, by made-up names in variable places."""

import hashlib
from collections import Counter

import polars as pl
import pytest

from crosyslog.masking import mask
from tests.trainer.simulated import LINE_SYSTEMS, masked, split
from trainer.simulation import simulate
from trainer.simulation.logs import open_log
from trainer.simulation.settings import Settings
from trainer.simulation.words import WORD_SLOTS, word


def templates_of(system: str, lines: int, templates: int) -> tuple[pl.Series, pl.Series]:
    """The masked templates of a log's lines, and their labels."""
    frame = split(system, simulate(system, lines, 0.05, 1, templates=templates))
    return mask(frame["text"]), frame["label"]


def test_names_are_distinct_and_stay_when_masked() -> None:
    for slot in sorted(WORD_SLOTS):
        names = [word(slot, number) for number in range(20_000)]
        names += [word(slot, number) for number in range(2**18 - 50, 2**18 + 50)]
        assert len(set(names)) == len(names)
        assert masked(names[:2_000]) == names[:2_000]


@pytest.mark.parametrize("system", LINE_SYSTEMS)
def test_a_log_comes_to_hold_about_as_many_templates_as_asked_for(system: str) -> None:
    found, labels = templates_of(system, 40_000, 2_500)
    assert found.n_unique() == pytest.approx(2_500, rel=0.1)
    assert labels.sum() == 2_000
    assert not set(found.filter(labels)) & set(found.filter(~labels))


def test_few_names_are_frequent_and_most_are_rare_to_the_end() -> None:
    found, _ = templates_of("spirit", 60_000, 5_000)
    counts = Counter(found.to_list())
    once = sum(count == 1 for count in counts.values())
    assert 0.2 * len(counts) < once < 0.8 * len(counts)
    logins = sorted(
        (count for text, count in counts.items() if "logged out after" in text), reverse=True
    )
    assert logins[0] > 10 * logins[len(logins) // 2], "a few users are there all the time"
    fifths = [found[start : start + 12_000].to_list() for start in range(0, 60_000, 12_000)]
    seen: set[str] = set()
    new = []
    for fifth in fifths:
        new.append(len(set(fifth) - seen))
        seen |= set(fifth)
    assert new == sorted(new, reverse=True), "new names come ever more slowly"
    assert new[-1] > 300


def test_the_same_seed_gives_the_same_bytes_with_names() -> None:
    settings = Settings(lines=12_000, anomaly_rate=0.05, seed=5, templates=1_200)
    log = open_log("thunderbird", settings)
    once, again = (b"".join(block.text for block in log.blocks()) for _ in range(2))
    assert once == again
    assert hashlib.sha256(once).hexdigest().startswith("5c436d675c106d4a")


def test_the_log_is_the_same_but_for_the_names() -> None:
    plain = list(simulate("spirit", 12_000, 0.05, 5))
    named = list(simulate("spirit", 12_000, 0.05, 5, templates=1_200))
    assert plain != named
    # Label, time, host and daemon are those of the log without the option.
    assert [line.split(b" ")[:8] for line in plain] == [line.split(b" ")[:8] for line in named]


def test_five_million_lines_can_hold_two_hundred_thousand_templates() -> None:
    """Asked for and not written: that the log is refused or not is decided at its start."""
    for system in LINE_SYSTEMS:
        settings = Settings(lines=5_000_000, anomaly_rate=0.05, seed=1, templates=250_000)
        block = next(open_log(system, settings).blocks())
        assert block.names > 50
