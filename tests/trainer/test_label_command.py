"""`trainer label` and what `trainer adapt` makes of its answers, as a user sees them."""

from __future__ import annotations

import csv
import os
import pty
import select
import signal
import sys
import termios
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from crosyslog.bundle import load_bundle, write_bundle
from crosyslog.store import Store
from tests.trainer.evidenced import RIGHT, evidence_base, evidence_stream
from tests.trainer.made import write_log
from tests.trainer.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@pytest.fixture
def texts() -> list[str]:
    stream = evidence_stream("target", 9, 3_000)
    return [stream.templates[row] for row in stream.rows.tolist()]


@pytest.fixture
def log(here: Path, texts: list[str]) -> Path:
    """A log of Spirit without labels; its last line would act on a terminal."""
    write_log(here / "spirit.log", texts, np.zeros(len(texts), dtype=np.bool_))
    lines = (here / "spirit.log").read_text(encoding="utf-8").splitlines()
    bare = [line.partition(" ")[2] for line in lines]
    bare[-1] += "\x1b[2J"
    (here / "spirit.log").write_text("\n".join(bare) + "\n", encoding="utf-8")
    return here / "spirit.log"


@pytest.fixture
def base(here: Path) -> Path:
    made = evidence_base("one", "two", "three")
    write_bundle(here / "base", made.manifest, made.detector, made.support)
    return here / "base"


def truth(text: str) -> bool:
    return not any(word in RIGHT for word in text.split(" "))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def fill_in(path: Path, most: int | None = None) -> None:
    """Answers what a file asks for."""
    rows = rows_of(path)
    for row in rows[:most]:
        row["label"] = "alert" if truth(row["template"]) else "normal"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def trainer(capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capfd)


def test_a_file_is_filled_in_and_given_back(
    trainer: Shell, here: Path, log: Path, base: Path
) -> None:
    label = ("label", "--target", "spirit", "--log", log, "--base", base)
    first = trainer.reports(*label, "--suggest", 20, "--output", "first.csv")
    assert (first["suggested"], first["labels"]) == (20, {"normal": 0, "alert": 0, "unsure": 0})
    rows = rows_of(here / "first.csv")
    assert {row["label"] for row in rows} == {""}
    assert all(row["template"].removeprefix("kernel ") in row["example"] for row in rows)
    assert {row["guess"] for row in rows} <= {"alert", "normal"}
    fill_in(here / "first.csv")
    second = trainer.reports(
        *label, "--answers", "first.csv", "--suggest", 30, "--output", "second.csv"
    )
    assert (second["taken"], second["suggested"]) == (20, 30)
    assert second["labels"]["normal"] + second["labels"]["alert"] == 20
    assert 0 < second["coverage"]["labelled"] < second["coverage"]["alike"]
    fill_in(here / "second.csv", most=25)
    shown = trainer.says("label", "--target", "spirit", "--answers", "second.csv")
    assert "25 answers taken in" in shown
    assert "spirit: 45 templates answered" in shown
    assert "`trainer adapt --target spirit` learns from them\n" in shown
    # Twice is once: nothing is added.
    before = (here / "store" / "spirit" / "labels.csv").read_bytes()
    trainer.says("label", "--target", "spirit", "--answers", "second.csv")
    assert (here / "store" / "spirit" / "labels.csv").read_bytes() == before


def test_adapt_learns_from_what_was_answered(
    trainer: Shell, here: Path, log: Path, base: Path, texts: Sequence[str]
) -> None:
    label = ("label", "--target", "spirit", "--log", log, "--base", base)
    trainer.reports(*label, "--suggest", 60, "--output", "ask.csv")
    fill_in(here / "ask.csv")
    trainer.reports("label", "--target", "spirit", "--answers", "ask.csv")
    report = trainer.reports("adapt", "--target", "spirit", "--base", base)
    assert report["files"] == ["labels.csv"]
    assert (report["support"]["lines"], report["support"]["templates"]) == (60, 60)
    assert report["rest"] is None
    assert report["settings"]["inner_steps"] == 1
    from_file = trainer.reports(
        "adapt", "--target", "spirit", "--base", base, "--labels", "ask.csv", "--log", log
    )
    assert from_file["files"] == ["spirit.log", "ask.csv"]
    assert from_file["support"] == report["support"]
    store = Store(here / "store")
    one, two = (load_bundle(store.path("spirit", version)) for version in ("0001", "0002"))
    ordered = one.support.sort("template")
    assert ordered.equals(two.support.sort("template"))
    rest = from_file["rest"]
    assert rest["lines"] == len(texts)
    alerts = sum(map(truth, texts))
    assert abs(rest["alerts"] - alerts) < 0.2 * alerts
    assert rest["hours"] == pytest.approx((len(texts) - 1) / 3600)
    assert rest["alerts_per_hour"] == pytest.approx(rest["alerts"] / rest["hours"])
    told = rest["told"]
    assert [one["labelled"] for one in told] == sorted(one["labelled"] for one in told)
    assert np.mean([truth(one["template"]) for one in told]) > 0.8
    assert all(one["nearest"]["template"] != one["template"] for one in told)
    shown = trainer.says("adapt", "--target", "spirit", "--base", base, "--log", log)
    assert f"on the rest     {len(texts):,} lines without label: {rest['alerts']} alerts" in shown
    assert "an hour" in shown
    assert 0 < rest["alerts_of_labelled_templates"] < rest["alerts"]
    assert f"{rest['alerts_of_labelled_templates']} of them are of templates that are" in shown


def test_labels_of_templates_go_before_those_of_the_log(
    trainer: Shell, here: Path, base: Path
) -> None:
    said = ["disk opened by hera", "disk failure of hera", "fan fault of hera"]
    labels: NDArray[np.bool_] = np.array([False, True, False] * 5)
    labelled = write_log(here / "labelled.log", said * 5, labels)
    (here / "own.csv").write_text(
        "Template,Label\nkernel fan fault of hera,alert\nlink panic of hera,alert\n",
        encoding="utf-8",
    )
    adapt = ("adapt", "--target", "spirit", "--base", base, "--log", labelled)
    alone = trainer.reports(*adapt)
    assert (alone["support"]["lines"], alone["support"]["alerts"]) == (15, 5)
    assert alone["rest"] is None
    both = trainer.reports(*adapt, "--labels", "own.csv")
    assert both["files"] == ["labelled.log", "own.csv"]
    assert (both["support"]["lines"], both["support"]["alert_templates"]) == (12, 3)
    manifest = load_bundle(Store(here / "store").path("spirit", "0002")).manifest
    assert "--log labelled.log --labels own.csv" in manifest.command


def test_answers_that_are_left_aside_are_named(trainer: Shell, here: Path, base: Path) -> None:
    (here / "own.csv").write_text("template,label\nfan fault,alert\n", encoding="utf-8")
    trainer.reports("label", "--target", "spirit", "--answers", "own.csv")
    labelled = write_log(here / "labelled.log", ["a b", "c d"], np.array([True, False]))
    report = trainer.reports("adapt", "--target", "spirit", "--base", base, "--log", labelled)
    assert any("were left aside" in note for note in report["notes"])
    assert report["support"]["lines"] == 2


def test_the_profile_of_the_labels_is_remembered(
    trainer: Shell, here: Path, log: Path, base: Path
) -> None:
    label = ("label", "--target", "mine", "--log", log, "--base", base)
    trainer.reports(*label, "--system", "spirit", "--suggest", 40, "--output", "ask.csv")
    fill_in(here / "ask.csv")
    trainer.reports("label", "--target", "mine", "--answers", "ask.csv")
    assert trainer.reports("adapt", "--target", "mine", "--base", base)["system"] == "spirit"
    more = trainer.reports(*label, "--suggest", 5, "--output", "more.csv")
    assert more["coverage"]["labelled"] > 0
    refused = trainer.refuses(*label, "--system", "plain", "--suggest", 5, "--output", "no.csv")
    assert "split by the profile spirit" in refused
    adapt = ("adapt", "--target", "mine", "--base", base, "--labels", "ask.csv")
    assert "split by the profile spirit" in trainer.refuses(*adapt, "--system", "plain")
    (here / "store" / "mine" / "labels.csv").unlink()
    assert trainer.reports(*adapt, "--system", "plain")["system"] == "plain"


def test_answers_alone_can_say_how_lines_split(trainer: Shell, here: Path, base: Path) -> None:
    (here / "own.csv").write_text("template,label\nkernel fan fault,alert\n", encoding="utf-8")
    label = ("label", "--target", "mine", "--answers", "own.csv")
    assert "lines split by" not in trainer.says(*label)
    assert "lines split by  spirit" in trainer.says(*label, "--system", "spirit")
    assert trainer.reports("adapt", "--target", "mine", "--base", base)["system"] == "spirit"


def test_answers_about_another_log_are_noticed(
    trainer: Shell, here: Path, log: Path, base: Path
) -> None:
    (here / "own.csv").write_text("template,label\nno such line,alert\n", encoding="utf-8")
    label = ("label", "--target", "spirit", "--log", log, "--base", base)
    _, notes = trainer.says_and_notes(*label, "--answers", "own.csv")
    assert "1 of the 1 labelled templates do not occur in the log" in notes


def test_lines_that_are_taken_whole_for_want_of_a_profile_are_said_to_be(
    trainer: Shell, here: Path, log: Path, base: Path
) -> None:
    label = ("label", "--target", "mine", "--log", log, "--base", base)
    shown, notes = trainer.says_and_notes(*label, "--suggest", 10, "--output", "ask.csv")
    assert "no profile is named mine, so lines are taken whole" in notes
    assert "lines split by  plain" in shown
    assert "trainer label --target mine --answers ask.csv" in shown
    assert "kept in" not in shown
    empty = trainer.says("label", "--target", "mine", "--answers", "ask.csv")
    assert "0 answers taken in: the column `label` is empty" in empty
    fill_in(here / "ask.csv")
    adapt = ("adapt", "--target", "other", "--base", base, "--log", log, "--labels", "ask.csv")
    taken_whole, split = trainer.reports(*adapt), trainer.reports(*adapt, "--system", "spirit")
    assert any("no profile is named other" in note for note in taken_whole["notes"])
    assert not any("do not occur" in note for note in taken_whole["notes"])
    assert any("10 of the 10 labelled templates do not occur" in note for note in split["notes"])
    assert not any("no profile" in note for note in split["notes"])


def test_a_prepared_log_is_asked_about_without_examples(
    trainer: Shell, here: Path, log: Path, base: Path
) -> None:
    trainer.says("prepare", "--system", "spirit", "--log", log, "--output", "made")
    label = ("label", "--target", "spirit", "--base", base, "--suggest", 10)
    trainer.says(*label, "--log", "made", "--output", "of-made.csv")
    trainer.says(*label, "--log", log, "--output", "of-log.csv")
    of_made, of_log = (
        [row["template_id"] for row in rows_of(here / name)]
        for name in ("of-made.csv", "of-log.csv")
    )
    assert of_made == of_log
    fill_in(here / "of-made.csv")
    arguments = ("adapt", "--target", "spirit", "--base", base, "--labels", "of-made.csv")
    report = trainer.reports(*arguments, "--log", "made")
    assert report["rest"]["lines"] == 3_000


def test_a_prepared_log_in_the_data_folder_is_adapted_to(
    trainer: Shell, here: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSYSLOG_DATA", str(here / "data"))
    labelled = write_log(here / "x.log", ["a b", "c d"] * 5, np.array([True, False] * 5))
    trainer.says("prepare", "--system", "spirit", "--log", labelled, "--output", "data/spirit")
    report = trainer.reports("adapt", "--target", "spirit", "--base", base)
    assert report["files"] == ["spirit"]
    assert report["support"]["lines"] == 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--log", "spirit.log"), "label asks in a terminal, and this is none"),
        (("--log", "spirit.log", "--json"), "--json goes with --suggest or --answers"),
        (("--log", "nowhere"), "--log nowhere: there is no such file"),
        ((), "give a log of the system with --log FILE"),
        (("--answers", "lines.csv"), "learns from those of lines"),
        (("--suggest", 5, "--output", "x.csv"), "give a log of the system with --log FILE"),
        (("--log", "spirit.log", "--suggest", 5), "--suggest N and --output FILE.csv belong"),
        (
            ("--log", "spirit.log", "--suggest", 0, "--output", "x.csv"),
            "greater than or equal to 1",
        ),
        (("--log", "spirit.log", "--suggest", 5, "--output", "spirit.log"), "exists already"),
        (("--log", "nowhere", "--suggest", 5, "--output", "x.csv"), "cannot read nowhere"),
        (("--answers", "nowhere"), "cannot read the labels nowhere"),
        (("--answers", "spirit.log"), "lack a header"),
        (("--log", "spirit.log", "--base", "without", "--answers", "x.csv"), "no base 'without'"),
    ],
)
@pytest.mark.usefixtures("log")
def test_label_refuses(
    trainer: Shell, here: Path, arguments: tuple[object, ...], said: str
) -> None:
    (here / "lines.csv").write_text("line,label\n1,alert\n", encoding="utf-8")
    assert said in trainer.refuses("label", "--target", "spirit", *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "let `trainer label --target spirit --log FILE` ask for them"),
        (("--log", "spirit.log"), "no line of spirit.log has a label"),
        (("--labels", "lines.csv"), "give that log with --log FILE"),
        (("--labels", "empty.csv"), "empty.csv holds no label"),
        (("--labels", "nowhere.csv"), "cannot read the labels nowhere.csv"),
        (("--log", "spirit.log", "--labels", "lines.csv", "--labels", "lines2.csv"), "give one"),
    ],
)
@pytest.mark.usefixtures("log")
def test_adapt_refuses(
    trainer: Shell, here: Path, base: Path, arguments: tuple[str, ...], said: str
) -> None:
    for name in ("lines.csv", "lines2.csv"):
        (here / name).write_text("line,label\n1,alert\n", encoding="utf-8")
    (here / "empty.csv").write_text("template,label\nfan fault,\n", encoding="utf-8")
    assert said in trainer.refuses("adapt", "--target", "spirit", "--base", base, *arguments)


def test_a_profile_holds_until_another_one_is_named(trainer: Shell, here: Path, base: Path) -> None:
    labelled = write_log(here / "x.log", ["a b", "c d"] * 5, np.array([True, False] * 5))
    (here / "more.csv").write_text("template,label\ne f,alert\n", encoding="utf-8")
    adapt = ("adapt", "--target", "mine", "--base", base)
    assert trainer.reports(*adapt, "--log", labelled, "--system", "spirit")["system"] == "spirit"
    again = trainer.reports(*adapt, "--labels", "more.csv")
    assert again["system"] == "spirit"
    assert trainer.reports(*adapt, "--labels", "more.csv", "--system", "plain")["system"] == "plain"


def test_a_log_from_a_pipe_is_asked_about_without_examples(
    trainer: Shell, here: Path, log: Path, base: Path
) -> None:
    os.mkfifo(here / "pipe")
    thread = threading.Thread(target=lambda: (here / "pipe").write_bytes(log.read_bytes()))
    thread.start()
    label = ("label", "--target", "spirit", "--base", base, "--log", "pipe")
    trainer.says(*label, "--suggest", 5, "--output", "ask.csv")
    thread.join()
    assert {row["example"] for row in rows_of(here / "ask.csv")} == {""}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(log: Path, number: signal.Signals) -> None:
    screen = Terminal("--target", "spirit", "--log", log)
    screen.wait_for("quit: ")
    screen.press("n")
    screen.wait_for("quit: ")
    screen.raw()
    assert screen.signalled(number) in {-number, 0}
    assert len(rows_of(log.parent / "store" / "spirit" / "labels.csv")) == 1


class Terminal:
    """A real `trainer label` in a terminal of its own."""

    def __init__(self, *arguments: object) -> None:
        # Held open here too, so that the terminal is still there to be looked at after the end.
        self._screen, self._other = pty.openpty()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._screen)
            os.login_tty(self._other)
            os.environ["COLUMNS"] = "100"
            words = [str(Path(sys.executable).with_name("trainer")), "label", *map(str, arguments)]
            os.execv(words[0], words)  # noqa: S606 - the program under test
        self.shown = ""

    def wait_for(self, text: str, seconds: float = 120.0) -> None:
        end, seen = time.monotonic() + seconds, len(self.shown)
        while text not in self.shown[seen:]:
            assert time.monotonic() < end, self.shown[-2000:]
            if select.select([self._screen], [], [], 0.2)[0]:
                self.shown += os.read(self._screen, 65536).decode(errors="replace")

    def press(self, key: str) -> None:
        # What comes before it listens is thrown away, as a hasty key should be.
        self.raw()
        os.write(self._screen, key.encode())

    def raw(self) -> None:
        """Waits until the terminal gives single keys, unseen."""
        while termios.tcgetattr(self._screen)[3] & (termios.ICANON | termios.ECHO):
            time.sleep(0.02)

    def signalled(self, number: signal.Signals) -> int:
        """How it ends by a signal; the terminal must be usable then."""
        held = os.open(os.ttyname(self._other), os.O_RDWR | os.O_NOCTTY)
        os.kill(self._pid, number)
        status = os.waitpid(self._pid, 0)[1]
        assert termios.tcgetattr(held)[3] & termios.ICANON
        assert termios.tcgetattr(held)[3] & termios.ECHO
        for descriptor in (held, self._other, self._screen):
            os.close(descriptor)
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self.end()

    def end(self) -> int:
        status = os.waitpid(self._pid, 0)[1]
        os.close(self._screen)
        os.close(self._other)
        return os.waitstatus_to_exitcode(status)


def test_a_killed_terminal_has_kept_every_answer(log: Path) -> None:
    """With the shipped base and encoder."""
    arguments = ("--target", "spirit", "--log", log)
    screen = Terminal(*arguments)
    screen.wait_for("quit: ")
    assert "\x1b[2J" not in screen.shown
    assert "spirit.log: 3,000 lines of" in screen.shown
    assert "round 1, 20 to go" in screen.shown
    screen.press("n")
    screen.wait_for("quit: ")
    screen.press("a")
    screen.wait_for("quit: ")
    screen.kill()
    again = Terminal(*arguments)
    again.wait_for("quit: ")
    assert "answers so far  2" in again.shown
    assert "round 1, 18 to go" in again.shown
    again.press("q")
    again.wait_for("next ")
    assert again.end() == 0
    assert "1 normal, 1 alert, 0 unsure" in again.shown
