"""The page of an evaluation: complete, harmless whatever a log holds, and readable by anybody."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pytest

from crosyslog.errors import SettingError, ToolMissingError
from crosyslog.terminal import printable
from tests.trainer.evaluated import (
    F1,
    HOSTILE,
    all_details,
    content,
    details,
    figures,
    wrong,
)
from tests.trainer.page_reader import Page
from trainer.details import LabelsPoint, MethodDetails, ReliabilityBin
from trainer.page import write_page

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ORACLE = "maml_lstm (oracle step)"


def page(
    folder: Path, said: dict[str, Any], known: Mapping[str, MethodDetails] | None = None
) -> Page:
    return Page(write_page(said, all_details() if known is None else known, folder))


def everything() -> tuple[dict[str, Any], dict[str, MethodDetails]]:
    """An evaluation with every part that a page can have."""
    methods = {name: figures(f1) for name, f1 in F1.items()} | {ORACLE: figures(0.66)}
    split = {name: figures(f1 - 0.1) for name, f1 in F1.items()}
    said = content(
        protocol="paper",
        methods=methods,
        wrong_labels=0.05,
        by_host={"partitions": 8, "methods": split},
    )
    return said, all_details() | {ORACLE: details(0.66)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page with every part."""
    return page(tmp_path_factory.mktemp("whole"), *everything())


def test_text_of_a_log_is_shown_as_text(tmp_path: Path, whole: Page) -> None:
    said, known = everything()
    said |= {"target": HOSTILE, "file": HOSTILE, "sources": [HOSTILE], "base": HOSTILE}
    said["methods"][HOSTILE] = figures(0.3)
    known[HOSTILE] = details(0.3)
    hostile = page(tmp_path, said, known)
    # In the title, twice above the table, as a base and as a method, and as template and line.
    assert hostile.text.count(printable(HOSTILE)) > whole.text.count(printable(HOSTILE)) + 8
    assert not set(hostile.tags) - set(whole.tags)
    assert "{{ 7 * 7 }}" in hostile.text
    assert not set("\x00\x1b\u202e") & set(hostile.source)


def test_it_asks_for_nothing(whole: Page) -> None:
    whole.must_ask_for_nothing()


def test_every_figure_of_every_method_is_there(whole: Page) -> None:
    said, known = everything()
    for name, of_method in said["methods"].items():
        f1 = of_method["f1"]
        row = whole.rows_of(name)[0]
        assert row[1:] == [
            f"{f1['mean']:.3f}",
            f"{f1['low']:.3f}-{f1['high']:.3f} ",
            *(
                f"{of_method[key]:.3f}"
                for key in ("pooled_f1", "precision", "recall", "auprc", "unseen_recall")
            ),
            f"{of_method['false_alerts_per_10k']:.1f}",
            f"{known[name].seconds:.1f}",
        ]
    for name in F1:
        split, skipped = whole.rows_of(name)[1:3]
        assert split[1] == f"{said['by_host']['methods'][name]['f1']['mean']:.3f}"
        of_skipped = said["skipped"]["methods"][name]
        assert skipped[1:] == [f"{of_skipped['false_alerts_per_10k']:.1f}"]
        by_labels, by_score = ([*known[name].by_labels], [*known[name].reliability])
        assert all(f"{point.mean:.3f}" in whole.text for point in by_labels)
        assert all(f"{each.alerts:.3f}" in whole.text for each in by_score)
    assert "15 of them were judged" in whole.words
    assert "2,500 support with few alerts, 218 query with many alerts" in whole.words
    assert "8 partitions" in whole.words


def test_what_was_judged_wrong_is_there(tmp_path: Path) -> None:
    known = {"memory": MethodDetails([], [], misses=[wrong("a *", 1234, example="a raw line")])}
    shown = page(tmp_path, content(), known)
    assert ["a *a raw line", "1,234", "3", "yes"] in shown.rows
    assert "1,234 missed, 0 false alerts" in shown.words
    nothing = page(tmp_path, content(), {"memory": MethodDetails([], [])})
    assert "Nothing was judged wrong" in nothing.text


def test_endless_logs_make_no_endless_page(tmp_path: Path) -> None:
    many = [wrong(f"template-{number}", 10) for number in range(250)]
    long = wrong("b" * 5000, 9)
    known = {"memory": MethodDetails([], [], misses=many, false_alerts=[long])}
    shown = page(tmp_path, content(), known)
    assert "template-99" in shown.text
    assert "template-100" not in shown.text
    assert "And 150 more templates with 1,500 lines." in shown.words
    assert "2,500 missed, 9 false alerts" in shown.words
    assert "b" * 1000 + " … (4,000 more characters)" in shown.text
    assert "b" * 1001 not in shown.text


def test_what_knew_the_answers_is_marked_wherever_it_is_named(tmp_path: Path, whole: Page) -> None:
    # In the table of methods, three legends, two tables of numbers, and over its templates.
    assert whole.text.count(ORACLE + " not honest\xa0†") == 7
    assert [row[0] for row in whole.rows_of(ORACLE)] == [ORACLE + " not honest\xa0†"] * 3
    assert "† not honest:" in whole.text
    assert "not-honest" in whole.values("id")
    assert "Nothing is chosen on the query" not in whole.text
    honest = page(tmp_path, content())
    assert "not honest" not in honest.text
    assert "Nothing is chosen on the query" in honest.text


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (
            "Thunderbird-Reconstructed.log.gz",
            "Measured on a reconstructed log",
        ),
        ("simulated-7.log", "Measured on a simulated log"),
        ("thunderbird.log", ""),
    ],
)
def test_no_stand_in_for_a_log_goes_unsaid(tmp_path: Path, file: str, said: str) -> None:
    shown = page(tmp_path, content(file))
    assert said in shown.words
    assert ("not on the original" in shown.words) == bool(said)
    assert file in shown.title


def test_missing_parts_leave_nothing_behind(tmp_path: Path, whole: Page) -> None:
    bare = content(base=None, base_version=None, sources=[])
    for key in ("protocol", "skipped", "interval"):
        del bare[key]
    shown = page(tmp_path, bare, {})
    assert shown.headings == ["Evaluation on thunderbird", "How it was measured", "Methods"]
    assert shown.tags["table"] == 1
    assert "None" not in shown.text
    assert "Trained on" not in shown.text
    assert "on purpose" not in shown.text
    assert all(row[-1] == "-" for row in shown.rows[1:])
    assert len(whole.headings) == 9
    assert "5 % of the labels of the support were made wrong on purpose" in whole.words


def test_no_skipped_position_makes_no_table(tmp_path: Path) -> None:
    none = {"positions": 0, "judged": 0, "methods": {}}
    assert page(tmp_path, content(skipped=none), {}).tags["table"] == 1


def test_the_support_is_told_as_it_was(tmp_path: Path) -> None:
    contiguous = page(tmp_path, content())
    assert "labelled 1,000 lines in a row" in contiguous.words
    assert "labelled lines" in contiguous.text
    chosen = {"kind": "chosen", "size": 50, "history": 20_000}
    shown = page(tmp_path, content(support=chosen))
    assert "Of the 20,000 lines before" in shown.words
    assert "50 templates are chosen" in shown.words
    assert "labelled templates" in shown.text


def test_one_block_of_the_stream_says_that_the_spread_is_unknown(tmp_path: Path) -> None:
    interval = content()["interval"] | {"blocks": 1}
    assert "their spread is unknown" in page(tmp_path, content(interval=interval), {}).words


def test_a_single_point_is_drawn(tmp_path: Path) -> None:
    lone = MethodDetails(
        [1.0],
        [0.3],
        by_labels=[LabelsPoint(0, 0.4, 0.2, 0.6)],
        reliability=[ReliabilityBin(0.5, 0.5, 1)],
    )
    assert page(tmp_path, content(), {"memory": lone}).values("role").count("img") == 3


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, whole: Page) -> None:
    with mpl.rc_context({"axes.facecolor": "black", "svg.fonttype": "path"}):
        again = write_page(*everything(), tmp_path)
    assert again.name == "evaluation.html"
    assert again.read_text(encoding="utf-8") == whole.source


def test_everybody_can_read_it(whole: Page) -> None:
    assert ("html", "lang", "en") in whole.attributes
    assert whole.title == "thunderbird: evaluation on thunderbird-reconstructed.log.gz"
    scopes = [value for tag, name, value in whole.attributes if (tag, name) == ("th", "scope")]
    assert len(scopes) == whole.tags["th"]
    assert set(scopes) == {"col", "row", "rowgroup"}
    assert whole.tags["caption"] == whole.tags["table"]
    labels = [value for value in whole.values("aria-label") if value.startswith("Plot: ")]
    assert whole.values("role").count("img") == len(set(labels)) == 3
    # A drawing is a plot, which has its label, or stands beside the same in words.
    assert whole.tags["svg"] == 3 + whole.values("aria-hidden").count("true")
    assert len(whole.values("id")) == len(set(whole.values("id")))
    targets = {value.removeprefix("#") for value in whole.values("href")}
    assert targets <= set(whole.values("id"))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SettingError, match="taken: it cannot be written") as refused:
        write_page(content(), {}, tmp_path / "taken")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("tool", ["jinja2", "matplotlib"])
def test_a_missing_tool_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    monkeypatch.setitem(sys.modules, tool, None)
    with pytest.raises(ToolMissingError, match=r"install the extra crosyslog\[trainer\]"):
        write_page(content(), {}, tmp_path / "none")
    assert not (tmp_path / "none").exists()
