"""What a user sees of `trainer download`, and what is promised of the shipped data sets."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crosyslog import terminal
from tests.trainer.downloading.publisher import GZIPPED, LINES, MIDDLE, Publisher, dataset, get
from trainer.cli import app
from trainer.downloading import load_datasets


def test_shipped_data_sets_are_what_is_promised() -> None:
    found = load_datasets()
    assert {name: entry.lines for name, entry in found.items()} == {
        "bgl": 4_747_963,
        "bgl@cfdr": 4_747_963,
        "thunderbird": 211_212_192,
        "thunderbird@cfdr": 211_212_192,
        "spirit": 272_298_969,
        "liberty": 265_569_231,
        "hdfs": 11_175_629,
        "openstack": 207_820,
    }
    for name, entry in found.items():
        assert entry.address.startswith("https://")
        assert entry.name.partition("@")[0] == entry.system == name.partition("@")[0]
        assert (entry.md5 is not None) == entry.exact
        assert bool(entry.logs) == (entry.packing != "gz")
        assert any("DSN 2007" in text or "ISSRE 2023" in text for text in entry.citations)


def test_the_command_says_where_it_went_and_what_it_asks(
    shipped: Publisher, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert terminal.run(app, ["download", "made"]) == 0
    shown, progress = capfd.readouterr()
    assert not progress
    assert "made: fetched and checked, 2,000 lines" in shown
    assert str(tmp_path / "logs" / "made" / "made.gz") in shown
    assert "What Supercomputers Say" in shown
    assert dataset(shipped).publisher.licence in shown

    assert terminal.run(app, ["download", "made", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["fetched"] is False
    assert report["lines"] == LINES
    assert report["logs"] == [str(tmp_path / "logs" / "made" / "made.gz")]

    assert terminal.run(app, ["download", "made", "--output", str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine" / "made" / "made.gz").exists()


def test_the_command_lists_what_there_is(capfd: pytest.CaptureFixture[str]) -> None:
    assert terminal.run(app, ["download"]) == 0
    shown = capfd.readouterr().out
    assert "thunderbird@cfdr" in shown
    assert "265,569,231" in shown
    assert "CC BY 4.0" in shown
    assert terminal.run(app, ["download", "--json"]) == 0
    assert {entry["name"] for entry in json.loads(capfd.readouterr().out)} == set(load_datasets())


def test_an_unknown_name_is_one_line_with_the_known(capfd: pytest.CaptureFixture[str]) -> None:
    assert terminal.run(app, ["download", "bluegene"]) == 2
    shown, line = capfd.readouterr()
    assert not shown
    assert line == (
        "error: no data set is called bluegene: there is "
        "bgl, bgl@cfdr, thunderbird, thunderbird@cfdr, spirit, liberty, hdfs, openstack\n"
    )


def test_what_a_server_says_cannot_act_on_the_terminal(
    shipped: Publisher, capfd: pytest.CaptureFixture[str]
) -> None:
    shipped.refuses_with = [(404, "\x1b[2Jgone")]
    assert terminal.run(app, ["download", "made"]) == 2
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert "404 \\x1b[2Jgone" in line


def test_a_signal_ends_the_command_with_a_word(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks_after, publisher.stalls = [MIDDLE], True
    code = (
        "import json, sys\n"
        "from crosyslog.terminal import run\n"
        "from trainer.cli import app\n"
        "from trainer.downloading import catalogue\n"
        "made = catalogue.Dataset.model_validate_json(sys.argv[1])\n"
        "catalogue.load_datasets = lambda: {'made': made}\n"
        "sys.exit(run(app, ['download', 'made', '--output', sys.argv[2]]))\n"
    )
    arguments = [dataset(publisher).model_dump_json(), str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True
    ) as command:
        part = tmp_path / "made" / "made.gz.part"
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size == MIDDLE):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=20)
    assert command.returncode == 130
    assert said.strip() == "stopped; the same command goes on from what has arrived"
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
