"""Simulated Blue Gene/L: its raw format, its places, and storms that are bound to a job."""

import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from trainer.simulation import simulate

RAW = re.compile(
    r"(?P<label>-|[A-Z]+) (?P<epoch>\d{10}) (?P<date>\d{4}\.\d\d\.\d\d) (?P<node>\S+)"
    r" (?P<time>\d{4}-\d\d-\d\d-\d\d\.\d\d\.\d\d\.\d{6}) (?P<again>\S+) RAS (?P<component>[A-Z_]+)"
    r" (?P<level>INFO|WARNING|ERROR|SEVERE|FATAL|FAILURE)(?: (?P<message>.*))?"
)
# Racks R00 to R77, midplanes, node cards, and on these compute chips and I/O nodes; link cards.
PLACE = re.compile(
    r"NULL|R[0-7][0-7]-M[01](-N[0-9A-F](-C:J(0[2-9]|1[0-7])-U(01|11)|-I:J18-U(01|11))?"
    r"|-L[0-3]-U\d\d)?"
)


@pytest.fixture(scope="module")
def log() -> list[dict[str, str]]:
    lines = []
    for line in simulate("bgl", 24_000, 0.1, 4):
        match = RAW.fullmatch(line.decode())
        assert match, line
        lines.append({name: value or "" for name, value in match.groupdict().items()})
    return lines


def test_every_line_has_the_format_and_its_times_agree(log: list[dict[str, str]]) -> None:
    for line in log:
        assert PLACE.fullmatch(line["node"]), line["node"]
        assert line["again"] == line["node"]
        # The clock of the machine is seven hours behind UTC; the epoch is not.
        local = datetime.fromtimestamp(int(line["epoch"]), UTC) - timedelta(hours=7)
        assert line["date"] == local.strftime("%Y.%m.%d")
        assert line["time"].startswith(local.strftime("%Y-%m-%d-%H.%M.%S."))
    assert all(earlier["time"] <= later["time"] for earlier, later in pairwise(log))


def test_levels_and_alerts_do_not_coincide(log: list[dict[str, str]]) -> None:
    levels = {True: Counter[str](), False: Counter[str]()}
    for line in log:
        levels[line["label"] != "-"][line["level"]] += 1
    assert set(levels[False]) == {"INFO", "WARNING", "ERROR", "SEVERE", "FATAL", "FAILURE"}
    assert levels[False]["FATAL"] > 300, "some fatal lines are mistakes of users"
    assert levels[True]["INFO"] > 0, "some alerts are said in passing"
    assert levels[True]["FATAL"] > levels[True]["INFO"]
    assert levels[False]["INFO"] > 0.6 * len(log)


def test_a_storm_binds_many_chips_of_one_partition(log: list[dict[str, str]]) -> None:
    storms: dict[str, list[dict[str, str]]] = defaultdict(list)
    for line in log:
        if line["label"] in {"KERNDTLB", "KERNTERM"}:
            storms[line["label"]].append(line)
    wide = 0
    for lines in storms.values():
        spells: list[list[dict[str, str]]] = [[]]
        for line in lines:
            if spells[-1] and int(line["epoch"]) - int(spells[-1][-1]["epoch"]) > 120:
                spells.append([])
            spells[-1].append(line)
        for spell in spells:
            chips = {line["node"] for line in spell}
            midplanes = Counter(line["node"][:6] for line in spell)
            wide += len(chips) >= 12 and midplanes.most_common(1)[0][1] > 0.8 * len(spell)
    assert wide >= 3


def test_routine_comes_from_many_chips_and_in_bursts_over_neighbours(
    log: list[dict[str, str]],
) -> None:
    routine = [line["node"] for line in log if line["label"] == "-"]
    assert len(set(routine)) > 3_000
    assert {"NULL", "R00-M0"} <= {node if node == "NULL" else "R00-M0" for node in routine}
    cards = Counter(node[:9] for node in routine if "-C:" in node)
    # A burst over a node card makes it say far more than its share of 2,048.
    assert cards.most_common(1)[0][1] > 30
