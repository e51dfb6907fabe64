"""Simulated logs: their format, their promises, and the data they are made from."""

import gzip
import hashlib
import re
import tomllib
from collections import Counter, defaultdict
from datetime import UTC, datetime
from importlib.resources import files
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crosyslog.errors import SettingError, SystemProfileError
from crosyslog.masking import mask
from trainer.simulation import simulate, simulated_systems, write_simulated_log
from trainer.simulation.catalogue import Catalogue, load_catalogue, parse_catalogue
from trainer.simulation.draws import Draws, Purpose
from trainer.simulation.stream import Simulation

SYSTEMS = simulated_systems()
SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"

# label epoch YYYY.MM.DD host Mon day HH:MM:SS origin source message
RAW = re.compile(
    r"(?P<label>-|[A-Z]\w+) (?P<epoch>\d+) (?P<ymd>\S+) (?P<host>\S+) (?P<month>[A-Z][a-z]{2})"
    r" (?P<day>\d{1,2}) (?P<clock>\S+) (?P<origin>\S+) (?P<source>\S+:)(?: (?P<message>.*))?"
)


def fields(line: bytes) -> dict[str, str]:
    match = RAW.fullmatch(line.decode("utf-8", "replace"))
    assert match, line
    return {name: value or "" for name, value in match.groupdict().items()}


def masked(texts: list[str]) -> list[str]:
    return mask(pl.Series("text", texts, dtype=pl.String)).to_list()


def tables(name: str) -> dict[str, Any]:
    return tomllib.loads((files("trainer.simulation") / f"{name}.toml").read_text("utf-8"))


def templates_of(catalogue: Catalogue, kind: str) -> set[str]:
    """The masked templates of a catalogue, with every slot taken as one that masking hides."""
    texts = catalogue.alerts() if kind == "alerts" else catalogue.benign()
    return set(masked([re.sub(r"\{\w+\}", "7", text) for _, text in texts]))


@pytest.fixture(scope="module", params=SYSTEMS)
def log(request: pytest.FixtureRequest) -> list[dict[str, str]]:
    """A log of the usual size, split."""
    return [fields(line) for line in simulate(request.param, 20_000, 0.05, 11)]


def test_thunderbird_and_spirit_can_be_simulated() -> None:
    assert {"thunderbird", "spirit"} <= set(SYSTEMS)
    assert "daemons" not in SYSTEMS


def test_every_line_splits_and_its_times_agree_and_never_go_back(
    log: list[dict[str, str]],
) -> None:
    assert len(log) == 20_000
    for line in log:
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
    lines = list(simulate(system, 5_000, 0.1, 3))
    assert lines == list(simulate(system, 5_000, 0.1, 3))
    simulation = Simulation(system, lines=5_000, anomaly_rate=0.1, seed=3, late_templates=0.1)
    whole = b"".join(block.text for block in simulation.blocks())
    assert whole == b"".join(line + b"\n" for line in lines)
    assert whole == b"".join(block.text for block in simulation.blocks())
    output = tmp_path / "simulated.log"
    write_simulated_log(system=system, lines=5_000, anomaly_rate=0.1, seed=3, output=output)
    assert output.read_bytes() == whole


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


@pytest.mark.parametrize("rate", [0, 0.001, 0.05, 0.2, 0.6])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_share_of_alerts_is_met(system: str, rate: float) -> None:
    alerts = [not line.startswith(b"- ") for line in simulate(system, 20_000, rate, 5)]
    assert sum(alerts) == pytest.approx(20_000 * rate, rel=0.01)
    if rate >= 0.05:
        # Spread over the file: every fifth of it holds its part.
        fifths = [sum(alerts[start : start + 4_000]) for start in range(0, 20_000, 4_000)]
        assert min(fifths) > 4_000 * rate / 4


@pytest.mark.parametrize("lines", [1, 2, 3, 10, 57, 900, 1_100])
@pytest.mark.parametrize("rate", [0, 0.05, 0.6])
def test_a_short_log_is_as_long_as_asked_for(lines: int, rate: float) -> None:
    log = list(simulate("thunderbird", lines, rate, 2))
    assert len(log) == lines
    alerts = sum(not line.startswith(b"- ") for line in log)
    assert alerts == min(round(lines * rate), lines - 1)


@pytest.mark.parametrize("lines", [2_000, 20_000, 500_000])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_first_thousand_lines_hold_an_incident_of_several_families(
    system: str, seed: int, lines: int
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
        if host.startswith(("tfab", "smyri", "slog")):
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
        for text in masked([re.sub(r"\{\w+\}", "7", text) for text in family.precursors])
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


@pytest.mark.parametrize("system", SYSTEMS)
def test_templates_are_many_and_each_has_one_label(system: str) -> None:
    labels: dict[str, set[bool]] = defaultdict(set)
    counts = []
    lines = [fields(line) for line in simulate(system, 150_000, 0.05, 1)]
    for part in (lines[:20_000], lines[20_000:]):
        for line, text in zip(part, masked([line["message"] for line in part]), strict=True):
            labels[text].add(line["label"] != "-")
        counts.append(len(labels))
    assert counts[0] >= 250
    assert counts[1] > 400
    assert [text for text, seen in labels.items() if len(seen) > 1] == []


def test_new_harmless_templates_appear_later_if_asked_for() -> None:
    def new_in_second_half(late_templates: float) -> int:
        simulation = Simulation(
            "thunderbird", lines=40_000, anomaly_rate=0, seed=8, late_templates=late_templates
        )
        blocks = list(simulation.blocks())
        half = len(blocks) // 2
        early = set[int]().union(*(block.templates for block in blocks[:half]))
        return len(set[int]().union(*(block.templates for block in blocks[half:])) - early)

    assert new_in_second_half(0.5) > new_in_second_half(0) + 40


def test_the_rate_follows_the_day() -> None:
    # From six in the morning until the early afternoon.
    simulation = Simulation("thunderbird", lines=140_000, anomaly_rate=0, seed=1, late_templates=0)
    hours: Counter[int] = Counter()
    for block in simulation.blocks():
        hours[block.first // 3_600 % 24] += block.lines
    assert hours[12] > 1.25 * hours[7]


def test_a_long_log_is_not_planned_in_advance() -> None:
    assert len(list(islice(simulate("spirit", 10**12, 0.3, 1), 3_000))) == 3_000


def test_some_lines_are_not_utf8() -> None:
    with pytest.raises(UnicodeDecodeError):
        b"".join(simulate("thunderbird", 60_000, 0.01, 1)).decode()


@pytest.mark.parametrize("name", ["log.txt", "log.gz"])
def test_a_file_is_written_and_summed_up(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    told: list[int] = []
    summary = write_simulated_log(
        system="spirit", lines=3_000, anomaly_rate=0.1, seed=1, output=output, on_lines=told.append
    )
    data = gzip.decompress(output.read_bytes()) if name.endswith("gz") else output.read_bytes()
    log = [fields(line) for line in data.splitlines()]
    assert summary.lines == len(log) == told[-1] == 3_000
    tags = Counter(line["label"] for line in log if line["label"] != "-")
    assert summary.alerts == tags.total() == 300
    assert summary.alerts_by_tag == tags
    assert list(summary.alerts_by_tag.values()) == sorted(tags.values(), reverse=True)
    assert summary.hosts == len({line["host"] for line in log})
    assert 150 < summary.templates < 400
    assert int(log[0]["epoch"]) == summary.first.timestamp()
    assert int(log[-1]["epoch"]) == summary.last.timestamp()
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_same_seed_packs_to_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.gz", "two.gz"):
        write_simulated_log(
            system="spirit", lines=500, anomaly_rate=0.1, seed=1, output=tmp_path / name
        )
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


def test_what_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    output = tmp_path / "simulated.log"
    output.write_text("old")

    def interrupt(written: int) -> None:
        assert output.read_text() == "old"
        if written > 2_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_simulated_log(
            system="spirit",
            lines=5_000,
            anomaly_rate=0.1,
            seed=1,
            output=output,
            on_lines=interrupt,
        )
    assert output.read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for output in (tmp_path / "absent" / "log", tmp_path, Path("/dev/null")):
        with pytest.raises(SettingError, match=re.escape(f"--output {output}: ")):
            write_simulated_log(system="spirit", lines=10, anomaly_rate=0, seed=1, output=output)
    assert Path("/dev/null").is_char_device()


def test_an_unknown_system_is_answered_with_those_there_are() -> None:
    with pytest.raises(SystemProfileError, match=r"'windows'.*spirit.*thunderbird"):
        simulate("windows", 10, 0.1, 1)
    with pytest.raises(SystemProfileError):
        simulate("daemons", 10, 0.1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lines": 0}, r"--lines 0: .* at least 1"),
        ({"anomaly_rate": 0.61}, r"--anomaly-rate 0\.61: .* from 0 to 0\.6"),
        ({"anomaly_rate": -0.1}, r"--anomaly-rate -0\.1: "),
        ({"anomaly_rate": float("nan")}, r"--anomaly-rate nan: "),
        ({"seed": -1}, r"--seed -1: .* at least 0"),
        ({"late_templates": 1.0}, r"--late-templates 1\.0: .* from 0 to 0\.9"),
    ],
)
def test_an_impossible_setting_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        simulate(**{"system": "spirit", "lines": 10, "anomaly_rate": 0.1, "seed": 1, **arguments})


# --- the templates ---


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_has_enough_to_say(system: str) -> None:
    catalogue = load_catalogue(system)
    taken = [catalogue.daemons[name] for name in catalogue.mix]
    assert sum(len(daemon.routine) for daemon in taken) >= 120
    assert sum(len(daemon.oddities) for daemon in taken) >= 60
    assert len(catalogue.families) >= 12
    alarming = re.compile("error|fail|fatal|panic|critical|dead|lost", re.IGNORECASE)
    oddities = [text for daemon in taken for text in daemon.oddities]
    assert sum(bool(alarming.search(text)) for text in oddities) >= 25
    assert sum(not alarming.search(text) for _, text in catalogue.alerts()) >= 25


def test_no_template_stands_twice_or_has_both_labels_in_any_system() -> None:
    catalogues = [load_catalogue(system) for system in SYSTEMS]
    for catalogue in catalogues:
        texts = catalogue.benign() + catalogue.alerts()
        # With every slot hidden and its daemon before it.
        keys = [f"{name} {re.sub(r'{[^}]*}', '7', text)}" for name, text in texts]
        twice = [key for key, count in Counter(masked(keys)).items() if count > 1]
        assert twice == [], catalogue.system
    benign = set[str]().union(*(templates_of(catalogue, "benign") for catalogue in catalogues))
    alerts = set[str]().union(*(templates_of(catalogue, "alerts") for catalogue in catalogues))
    assert benign & alerts == set()


def test_shared_daemons_are_all_taken_by_some_system() -> None:
    taken = {name for system in SYSTEMS for name in load_catalogue(system).mix}
    assert set(tables("daemons")) <= taken


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("own log speed", 3, r"log\.speed"),
        ("own mix wumpusd", 1, r"mix\.wumpusd names an unknown daemon"),
        ("own families 0 daemon", "wumpusd", r"family R_\w+ names an unknown daemon"),
        ("own families 0 messages", ["the {wumpus} is near"], r"unknown slot \{wumpus\}"),
        ("own families 0 messages", ["an { open brace"], r"unknown slot"),
        ("own families 0 messages", ["{num} {num} {num} {num} {num} {num}"], r"more than 5 slots"),
        ("own families 0 messages", ["again", "again"], r"twice: 'again' of kernel"),
        ("own families 0 lines", [9, 2], r"runs from 9 to 2"),
        ("shared smartd on", ["submarine"], r"no host has a role of smartd"),
        ("own log header", "{planet} {body}", r"unknown field \{planet\}"),
        ("own log header", "{body} {host}", r"must end with \{body\}"),
        ("shared init source", "init[{num}]:", r"daemon init: "),
    ],
)
def test_a_mistake_in_a_system_file_is_named(place: str, value: object, message: str) -> None:
    tomls = {"own": tables("spirit"), "shared": tables("daemons")}
    *path, last = place.split()
    spoilt: Any = tomls
    for key in path:
        spoilt = spoilt[int(key) if key.isdigit() else key]
    spoilt[last] = value
    with pytest.raises(SystemProfileError, match=rf"spirit\.toml cannot be .*{message}"):
        parse_catalogue("spirit", tomls["own"], tomls["shared"])


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no development logs beside the checkout")
def test_no_template_is_taken_from_a_real_log() -> None:
    ours = set[str]()
    for system in SYSTEMS:
        catalogue = load_catalogue(system)
        ours |= {t.lower() for t in templates_of(catalogue, "benign")}
        ours |= {t.lower() for t in templates_of(catalogue, "alerts")}
    ours = {text for text in ours if len(text.split()) > 3}
    for path in sorted(SHARED_DATA.glob("*.log.gz")):
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
            lines = pl.Series("text", [line.rstrip("\n") for line in file])
        # After the label, times and hosts; in HDFS and OpenStack what is left still ends alike.
        message = lines.str.splitn(" ", 10).struct.field("field_9").fill_null("")
        found = {text.lower() for text in mask(message.alias("text")).unique()}
        assert ours & found == set(), path.name
