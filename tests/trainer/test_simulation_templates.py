"""What simulated logs are made from: templates of our own, enough of them, each with one label."""

import gzip
import re
from collections import Counter
from typing import Any

import polars as pl
import pytest

from crosyslog.errors import SystemProfileError
from crosyslog.masking import mask
from tests.trainer.simulated import (
    LINE_SYSTEMS,
    SESSION_SYSTEMS,
    SHARED_DATA,
    SYSTEMS,
    all_templates,
    hidden,
    masked,
    tables,
    templates_of,
)
from trainer.simulation.catalogue import load_catalogue, parse_catalogue
from trainer.simulation.session_catalogue import load_session_catalogue, parse_session_catalogue


@pytest.mark.parametrize("system", LINE_SYSTEMS)
def test_a_system_has_enough_to_say(system: str) -> None:
    catalogue = load_catalogue(system)
    taken = [catalogue.daemons[name] for name in catalogue.mix]
    # Blue Gene's kernel says less than the daemons of a Linux cluster.
    routine, oddities_least, alarming_least = (90, 40, 20) if system == "bgl" else (120, 60, 25)
    assert sum(len(daemon.routine) for daemon in taken) >= routine
    assert sum(len(daemon.oddities) for daemon in taken) >= oddities_least
    assert len(catalogue.families) >= 12
    alarming = re.compile("error|fail|fatal|panic|critical|dead|lost", re.IGNORECASE)
    oddities = [text for daemon in taken for text in daemon.oddities]
    assert sum(bool(alarming.search(text)) for text in oddities) >= alarming_least
    assert sum(not alarming.search(text) for _, text in catalogue.alerts()) >= 25


def test_no_template_stands_twice_or_has_both_labels_in_any_system() -> None:
    catalogues = [load_catalogue(system) for system in LINE_SYSTEMS]
    for catalogue in catalogues:
        texts = catalogue.benign() + catalogue.alerts()
        # With every slot hidden and its daemon before it.
        keys = [f"{name} {hidden(text)}" for name, text in texts]
        twice = [key for key, count in Counter(masked(keys)).items() if count > 1]
        assert twice == [], catalogue.system
    benign = set[str]().union(*(templates_of(catalogue, "benign") for catalogue in catalogues))
    alerts = set[str]().union(*(templates_of(catalogue, "alerts") for catalogue in catalogues))
    assert benign & alerts == set()


def test_shared_daemons_are_all_taken_by_some_system() -> None:
    taken = {name for system in LINE_SYSTEMS for name in load_catalogue(system).mix}
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


@pytest.mark.parametrize("system", SESSION_SYSTEMS)
def test_sessions_go_many_ways_and_anomalous_ones_are_told_by_more_than_words(system: str) -> None:
    catalogue = load_session_catalogue(system)
    normal, anomalous = (
        catalogue.events_of(lives) for lives in (catalogue.lives, catalogue.anomalies)
    )
    normal |= set(catalogue.background)
    assert normal | anomalous == set(catalogue.events), "every text is said somewhere"
    assert len(normal) >= 28
    assert len(anomalous - normal) >= 20
    assert len(catalogue.anomalies) >= 12
    alarming = re.compile("error|fail|exception|lost|WARN", re.IGNORECASE)
    assert sum(bool(alarming.search(catalogue.body(event))) for event in normal) >= 5
    quiet = [life for life in catalogue.anomalies if not catalogue.events_of((life,)) - normal]
    assert quiet, "some are told by the order or the absence of what normal ones say too"
    said, said_wrong = (
        set(masked([hidden(catalogue.events[event][1]) for event in events]))
        for events in (normal, anomalous - normal)
    )
    assert not said & said_wrong


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("log speed", 3, r"log\.speed"),
        ("log header", "{planet} {body}", r"unknown field \{planet\}"),
        ("lives 0 stages", ["teleport"], r"life kept names an unknown stage teleport"),
        ("stages read steps", ["teleport*3"], r"stage read names an unknown event teleport"),
        ("stages read steps", ["serve*9-2"], r"stage read: a range runs from 9 to 2"),
        ("stages read steps", ["serve 3"], r"'serve 3' is no step"),
        ("background", {"teleport": 1}, r"background names an unknown event teleport"),
        ("events open", ["teleporter", "beam up"], r"unknown source teleporter"),
        ("events open", ["xceiver", "the {wumpus} is near"], r"unknown slot \{wumpus\}"),
        ("events open", ["xceiver", "{num} " * 6], r"more than 6 slots"),
        ("events open", ["names", "new {block} set aside for {target}"], r"twice: 'new "),
    ],
)
def test_a_mistake_in_a_file_of_sessions_is_named(place: str, value: object, message: str) -> None:
    spoilt = tables("hdfs")
    *path, last = place.split()
    inner: Any = spoilt
    for key in path:
        inner = inner[int(key) if key.isdigit() else key]
    inner[last] = value
    with pytest.raises(SystemProfileError, match=rf"hdfs\.toml cannot be .*{message}"):
        parse_session_catalogue("hdfs", spoilt)


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no development logs beside the checkout")
def test_no_template_is_taken_from_a_real_log() -> None:
    ours = {text.lower() for system in SYSTEMS for text in all_templates(system)}
    ours = {text for text in ours if len(text.split()) > 3}
    # The natural logs hold the messages of the reconstructed ones.
    paths = [path for path in SHARED_DATA.glob("*.log.gz") if ".natural." not in path.name]
    assert {path.name.split(".")[0] for path in paths} == set(SYSTEMS)
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
            lines = pl.Series("text", [line.rstrip("\n") for line in file])
        found = {text.lower() for text in mask(message_of(path.name, lines)).unique()}
        assert len(found) > 10, path.name
        assert ours & found == set(), path.name


def message_of(name: str, lines: pl.Series) -> pl.Series:
    """What the lines of a real log say, without their labels, times, hosts and sessions."""
    if name.startswith("hdfs"):
        return lines.str.extract(r"^\d+ \d+ \d+ [A-Z]+ [^ ]+: (.*)$").fill_null("").alias("text")
    if name.startswith("openstack"):
        return lines.str.replace(r"^[A-Z]+ [^ ]+ (\[[^\]]*\] )*", "").alias("text")
    return lines.str.splitn(" ", 10).struct.field("field_9").fill_null("").alias("text")
