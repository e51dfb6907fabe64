"""`trainer simulate`, as users see it."""

import json

import pytest

from crosyslog import terminal
from tests.trainer.simulated import SYSTEMS
from trainer.cli import app


@pytest.fixture(autouse=True)
def folder_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("simulated"))


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = terminal.run(app, ["simulate", *(str(argument) for argument in arguments)])
    printed = capfd.readouterr()
    return status, printed.out, printed.err


@pytest.mark.parametrize("system", SYSTEMS)
def test_it_says_what_the_log_holds_and_that_it_is_simulated(
    capfd: pytest.CaptureFixture[str], system: str
) -> None:
    arguments = ("--system", system, "--lines", 2_000, "--output", "x.log")
    status, shown, _ = run(capfd, *arguments)
    assert status == 0
    assert f"2,000 simulated lines of {system}" in shown
    for what in ("alerts", "line patterns", "time"):
        assert f"\n  {what} " in shown
    status, shown, _ = run(capfd, *arguments, "--json")
    report = json.loads(shown)
    assert report["simulated"] is True
    assert (report["system"], report["lines"], report["output"]) == (system, 2_000, "x.log")
    assert sum(report["alerts_by_tag"].values()) == report["alerts"] > 0
    assert report["first"] < report["last"]
    assert report["hosts"] > 10
    assert report["line_patterns"] > 25
    assert "templates" not in report
    expected = "x.log.labels.csv" if system in {"hdfs", "openstack"} else None
    assert report["labels"] == expected
    assert (report["sessions"] > 0) == (expected is not None)


def test_templates_and_late_templates_are_options(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ("--system", "spirit", "--lines", 15_000, "--output", "x.log")
    _, shown, _ = run(capfd, *arguments, "--templates", 1_500, "--late-templates", 0.3, "--json")
    assert json.loads(shown)["line_patterns"] == pytest.approx(1_500, rel=0.15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--system", "windows"), "system 'windows' cannot be simulated: choose one of bgl, "),
        (("--system", "bgl", "--lines", "0"), "--lines 0: "),
        (("--system", "bgl", "--anomaly-rate", "0.9"), "--anomaly-rate 0.9: "),
        (("--system", "bgl", "--late-templates", "1"), "--late-templates 1.0: "),
        (("--system", "bgl", "--templates", "90000"), "100,000 lines of bgl hold "),
        (("--system", "openstack", "--templates", "9000"), "lines of openstack hold no names"),
        (("--system", "bgl", "--output", "none/x.log"), "--output none/x.log: "),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    status, shown, error = run(capfd, "--output", "x.log", *arguments)
    assert status == 2
    assert shown == ""
    assert message in error
    assert error.count("\n") == 1
