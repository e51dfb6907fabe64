"""Simulated logs: their format and their promises."""

import hashlib
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path

import polars as pl
import pytest

from crosyslog.masking import mask
from tests.trainer.simulated import (
    LINE_SYSTEMS,
    SESSION_SYSTEMS,
    SYSLOG_SYSTEMS,
    SYSTEMS,
    hidden,
    masked,
    split,
)
from trainer.simulation import simulate, write_simulated_log
from trainer.simulation.catalogue import load_catalogue
from trainer.simulation.draws import Draws, Purpose
from trainer.simulation.logs import open_log
from trainer.simulation.settings import Settings

# label epoch YYYY.MM.DD host Mon day HH:MM:SS origin source message
RAW = re.compile(
    r"(?P<label>-|[A-Z]\w+) (?P<epoch>\d+) (?P<ymd>\S+) (?P<host>\S+) (?P<month>[A-Z][a-z]{2})"
    r" (?P<day>\d{1,2}) (?P<clock>\S+) (?P<origin>\S+) (?P<source>\S+:)(?: (?P<message>.*))?"
)


def fields(line: bytes) -> dict[str, str]:
    match = RAW.fullmatch(line.decode("utf-8", "replace"))
    assert match, line
    return {name: value or "" for name, value in match.groupdict().items()}


@pytest.fixture(scope="module", params=SYSLOG_SYSTEMS)
def log(request: pytest.FixtureRequest) -> list[dict[str, str]]:
    """A log of the usual size, split."""
    return [fields(line) for line in simulate(request.param, 20_000, 0.05, 11)]


def test_all_systems_of_the_papers_can_be_simulated() -> None:
    assert SYSTEMS == ("bgl", "hdfs", "liberty", "openstack", "spirit", "thunderbird")
    assert SESSION_SYSTEMS == ("hdfs", "openstack")


def test_every_line_splits_and_its_times_agree_and_never_go_back(
    log: list[dict[str, str]],
) -> None:
    assert len(log) == 20_000
    for line in log[::5]:
        moment = datetime.fromtimestamp(int(line["epoch"]), UTC)
        assert line["ymd"] == moment.strftime("%Y.%m.%d")
        assert line["clock"] == moment.strftime("%H:%M:%S")
        assert line["day"] == str(moment.day)
        assert line["month"] == moment.strftime("%b")
        assert re.fullmatch(rf"({line['host']}/|\w+@){line['host']}", line["origin"])
    epochs = [int(line["epoch"]) for line in log]
    assert all(earlier <= later for earlier, later in pairwise(epochs))


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_seed_gives_the_same_bytes_in_any_portion(system: str, tmp_path: Path) -> None:
    lines = list(simulate(system, 3_000, 0.1, 3))
    simulation = open_log(system, Settings(lines=3_000, anomaly_rate=0.1, seed=3))
    whole = b"".join(block.text for block in simulation.blocks())
    assert whole == b"".join(line + b"\n" for line in lines)
    assert whole == b"".join(block.text for block in simulation.blocks())
    output = tmp_path / "simulated.log"
    write_simulated_log(system=system, lines=3_000, anomaly_rate=0.1, seed=3, output=output)
    assert output.read_bytes() == whole


@pytest.mark.parametrize(
    ("system", "start"),
    [
        ("thunderbird", "85646d21f56aa779"),
        ("spirit", "91af8e6af751e251"),
        ("liberty", "f893a922f3e15c79"),
        ("bgl", "99b66cc418e5e791"),
        ("hdfs", "b1ca17b20a59cfe4"),
        ("openstack", "055540beafaa99d2"),
    ],
)
def test_a_log_has_the_bytes_it_had_before(system: str, start: str) -> None:
    """So that a figure measured on a simulated log can be measured again: change it knowingly."""
    log = b"\n".join(simulate(system, 5_000, 0.1, 3))
    assert hashlib.sha256(log).hexdigest().startswith(start)


def test_draws_are_the_same_on_every_machine() -> None:
    draws = Draws(7, Purpose.HOSTS)
    drawn = [draws.bits(), draws.below(1_000), draws.low_biased(1, 99)]
    drawn += draws.low_biased_array(9, 640)
    drawn += [*draws.shuffled([1, 2, 3, 4]), *draws.array(100).tolist()]
    assert hashlib.sha256(repr(drawn).encode()).hexdigest()[:16] == "e0eb35aa1400846f"


def test_another_seed_gives_another_log() -> None:
    logs = {tuple(simulate("spirit", 1_000, 0.05, seed)) for seed in range(4)}
    assert len(logs) == 4
    # Not even the incident of the opening is the same.
    assert len({tuple(sorted({line.split()[0] for line in log})) for log in logs}) > 1


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.6])
@pytest.mark.parametrize("system", LINE_SYSTEMS)
def test_the_share_of_alerts_is_met(system: str, rate: float) -> None:
    alerts = [not line.startswith(b"- ") for line in simulate(system, 10_000, rate, 5)]
    assert sum(alerts) == pytest.approx(10_000 * rate, rel=0.01, abs=1)
    if rate >= 0.05:
        # Spread over the file: every fifth of it holds its part.
        fifths = [sum(alerts[start : start + 2_000]) for start in range(0, 10_000, 2_000)]
        assert min(fifths) > 2_000 * rate / 4


@pytest.mark.parametrize("lines", [1, 3, 57, 1_100])
@pytest.mark.parametrize("rate", [0, 0.6])
def test_a_short_log_is_as_long_as_asked_for(lines: int, rate: float) -> None:
    log = list(simulate("thunderbird", lines, rate, 2))
    assert len(log) == lines
    alerts = sum(not line.startswith(b"- ") for line in log)
    assert alerts == min(round(lines * rate), lines - 1)
    for system in SESSION_SYSTEMS:
        assert len(list(simulate(system, lines, rate, 2))) == lines


@pytest.mark.parametrize(("lines", "seed"), [(2_000, 0), (20_000, 1), (500_000, 2)])
@pytest.mark.parametrize("system", LINE_SYSTEMS)
def test_the_first_thousand_lines_hold_an_incident_of_several_families(
    system: str, lines: int, seed: int
) -> None:
    labels = [line.split()[0] for line in islice(simulate(system, lines, 0.05, seed), 1_000)]
    alerts = Counter(label for label in labels if label != b"-")
    assert 30 <= alerts.total() <= 300
    assert len(alerts) >= 3


def test_families_and_alert_templates_also_appear_later(log: list[dict[str, str]]) -> None:
    texts = masked([line["message"] for line in log])
    first_of_family: dict[str, int] = {}
    first_of_template: dict[str, int] = {}
    for number, (line, text) in enumerate(zip(log, texts, strict=True)):
        if line["label"] != "-":
            first_of_family.setdefault(line["label"], number)
            first_of_template.setdefault(text, number)
    assert len(first_of_family) >= 12
    assert sum(number >= 5_000 for number in first_of_family.values()) >= 3
    assert sum(number >= 1_000 for number in first_of_template.values()) >= 20


def test_alerts_come_as_storms_of_a_host_among_routine_of_others(
    log: list[dict[str, str]],
) -> None:
    spells: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for number, line in enumerate(log):
        if line["label"] != "-":
            spells[line["label"], line["host"]].append((int(line["epoch"]), number))
    storms = {key: seen for key, seen in spells.items() if len(seen) >= 6}
    alerts = sum(map(len, spells.values()))
    assert sum(map(len, storms.values())) > 0.75 * alerts
    assert len(storms) >= 8
    assert any(len(seen) <= 2 for seen in spells.values()), "some alerts come alone"
    for (tag, host), seen in storms.items():
        if host.startswith(("tfab", "smyri", "slog", "lmyri", "llogin", "lnfs")):
            continue  # so few hosts of that role that storms meet again
        minutes = (seen[-1][0] - seen[0][0]) / 60
        assert minutes < 60, (tag, host)
    interrupted = sum(
        later[1] - earlier[1] > 1 for seen in storms.values() for earlier, later in pairwise(seen)
    )
    assert interrupted > alerts / 2, "routine goes on between the lines of a storm"


def test_a_storm_is_announced_by_harmless_lines_of_its_host() -> None:
    catalogue = load_catalogue("spirit")
    precursors = {
        text: family.tag
        for family in catalogue.families
        for text in masked([hidden(text) for text in family.precursors])
    }
    log = [fields(line) for line in simulate("spirit", 20_000, 0.05, 4)]
    texts = masked([line["message"] for line in log])
    announced = 0
    for number, (line, text) in enumerate(zip(log, texts, strict=True)):
        if text in precursors:
            assert line["label"] == "-"
            following = log[number : number + 600]
            announced += any(
                (later["label"], later["host"]) == (precursors[text], line["host"])
                for later in following
            )
    assert announced >= 5


@pytest.mark.parametrize("system", LINE_SYSTEMS)
def test_templates_are_many_and_each_has_one_label(system: str) -> None:
    """Whatever the profile judges: the message with its daemon, or with component and level."""
    frame = split(system, simulate(system, 30_000, 0.05, 1))
    judged = pl.DataFrame({"template": mask(frame["text"]), "alert": frame["label"]})
    assert judged[:20_000]["template"].n_unique() >= (170 if system == "bgl" else 250)
    assert judged["template"].n_unique() > (200 if system == "bgl" else 400)
    labels = judged.group_by("template").agg(pl.col("alert").n_unique())
    assert labels.filter(pl.col("alert") > 1)["template"].to_list() == []


@pytest.mark.parametrize(("system", "more"), [("thunderbird", 40), ("hdfs", 4), ("openstack", 8)])
def test_new_harmless_templates_appear_later_if_asked_for(system: str, more: int) -> None:
    def new_in_second_half(late_templates: float) -> int:
        settings = Settings(lines=20_000, anomaly_rate=0, seed=8, late_templates=late_templates)
        blocks = list(open_log(system, settings).blocks())
        half = len(blocks) // 2
        early = set[int]().union(*(block.templates for block in blocks[:half]))
        return len(set[int]().union(*(block.templates for block in blocks[half:])) - early)

    assert new_in_second_half(0.5) > new_in_second_half(0) + more


def test_the_rate_follows_the_day() -> None:
    # From six in the morning until the early afternoon.
    settings = Settings(lines=100_000, anomaly_rate=0, seed=1)
    hours: Counter[int] = Counter()
    for block in open_log("thunderbird", settings).blocks():
        hours[block.first // 3_600 % 24] += block.lines
    assert hours[11] > 1.25 * hours[7]


def test_a_long_log_is_not_planned_in_advance() -> None:
    for system in SYSTEMS:
        assert len(list(islice(simulate(system, 10**12, 0.3, 1), 3_000))) == 3_000


def test_some_lines_are_not_utf8() -> None:
    with pytest.raises(UnicodeDecodeError):
        b"".join(simulate("thunderbird", 60_000, 0.01, 1)).decode()
