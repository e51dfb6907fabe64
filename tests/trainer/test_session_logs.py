"""Logs read as sessions: their lines, their labels, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from crosyslog.errors import InputError, LabelError
from crosyslog.lines import read_lines
from crosyslog.masking import mask
from crosyslog.session_rules import session_rule
from crosyslog.systems import load_system
from tests.trainer.made import messages, write_log
from tests.trainer.preparing import prepare
from tests.trainer.simulated import SHARED_DATA
from trainer.session_logs import SessionLog, read_session_log
from trainer.simulation import labels_beside, write_simulated_log
from trainer.whole_logs import NO_LABEL, read_whole

if TYPE_CHECKING:
    from collections.abc import Iterable

HDFS, SPIRIT = load_system("hdfs"), load_system("spirit")
KEY, TWENTY = session_rule("key"), session_rule("20")


def simulated(folder: Path, system: str, name: str = "simulated.log.gz") -> Path:
    path = folder / name
    write_simulated_log(system=system, lines=3_000, anomaly_rate=0.2, seed=5, output=path)
    return path


def blocks(path: Path, *lines: tuple[str, str]) -> Path:
    """Writes lines of HDFS: what each says, and about which block."""
    text = "090214 071530 9 INFO dfs.DataNode: {} {}\n"
    path.write_text("".join(text.format(*line) for line in lines), encoding="utf-8")
    return path


def labelled(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def spoken(log: SessionLog) -> list[list[str]]:
    """The templates of each session's lines."""
    told = [log.lines.templates[row] for row in log.rows]
    edges = log.sessions.starts.tolist()
    return [told[begin:end] for begin, end in pairwise(edges)]


def counted(log: SessionLog) -> tuple[int, int, int]:
    """Sessions, anomalous ones, and those without a label."""
    return len(log), int((log.labels == 1).sum()), int((log.labels == NO_LABEL).sum())


@pytest.mark.parametrize("system", ["hdfs", "openstack"])
def test_sessions_of_a_simulated_log_have_the_labels_beside_it(tmp_path: Path, system: str) -> None:
    path = simulated(tmp_path, system)
    log = read_session_log(path, load_system(system), KEY, lines_at_once=170)
    lines = read_lines(path, load_system(system))
    told = dict(
        lines.with_columns(mask(lines["text"]).alias("template"))
        .drop_nulls("session")
        .group_by("session", maintain_order=True)
        .agg("template")
        .iter_rows()
    )
    assert dict(zip(log.sessions.keys, spoken(log), strict=True)) == told
    assert log.sessions.keys == list(told)
    assert log.sessions.left_out == lines["session"].null_count()
    given = dict(pl.read_csv(labels_beside(path)).iter_rows())
    assert [given[key] == "Anomaly" for key in told] == (log.labels == 1).tolist()
    assert set(log.labels.tolist()) == {0, 1}
    assert log.labels_elsewhere == len(given) - len(told)


def test_sessions_of_so_many_lines_have_the_labels_of_their_lines(tmp_path: Path) -> None:
    path = write_log(tmp_path / "spirit.log", *messages(1_990))
    log = read_session_log(path, SPIRIT, TWENTY, lines_at_once=333)
    alerts = messages(1_990)[1]
    expected = [bool(alerts[row : row + 20].any()) for row in range(0, 1_990, 20)]
    assert (log.labels == 1).tolist() == expected
    assert not (log.labels == NO_LABEL).any()
    assert log.sessions.lengths.tolist() == [20] * 99 + [10]
    whole = read_whole(path, SPIRIT)
    assert log.lines.templates == whole.templates
    assert np.array_equal(log.rows, whole.rows)


def test_a_session_is_unlabelled_where_no_line_of_it_has_a_label(tmp_path: Path) -> None:
    texts, labels = messages(60)
    path = write_log(tmp_path / "log", texts, labels | (np.arange(60) == 25))
    lines = path.read_text(encoding="utf-8").splitlines()
    bare = [line if row > 18 else line.partition(" ")[2] for row, line in enumerate(lines)]
    path.write_text("\n".join(bare), encoding="utf-8")
    assert read_session_log(path, SPIRIT, TWENTY).labels.tolist() == [0, 1, 0]
    assert read_session_log(path, SPIRIT, session_rule("19")).labels.tolist() == [NO_LABEL, 1, 0, 0]


def test_sessions_of_so_much_time(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log", *messages(150))  # a line a second
    log = read_session_log(path, SPIRIT, session_rule("1m"), lines_at_once=7)
    assert log.sessions.keys == ["1", "61", "121"]
    assert log.sessions.lengths.tolist() == [60, 60, 30]


def test_several_logs_are_read_as_one(tmp_path: Path) -> None:
    first = blocks(tmp_path / "a.log", ("got", "blk_1"), ("lost", "blk_2"), ("idle", ""))
    second = blocks(tmp_path / "b.log", ("lost", "blk_1"), ("sent", "blk_3"))
    log = read_session_log([first, second], HDFS, KEY)
    assert log.sessions.keys == ["blk_1", "blk_2", "blk_3"]
    assert [[text.split()[2] for text in session] for session in spoken(log)] == [
        ["got", "lost"],
        ["lost"],
        ["sent"],
    ]
    assert log.sessions.rows.tolist() == [0, 3, 1, 4]
    assert (len(log.lines), log.sessions.left_out) == (5, 1)
    assert log.labels.tolist() == [NO_LABEL] * 3
    # Each may have its labels beside it.
    labelled(labels_beside(first), "BlockId,Label\nblk_1,Normal\nblk_2,Anomaly\n")
    labelled(labels_beside(second), "BlockId,Label\nblk_3,Anomaly\n")
    assert read_session_log([first, second], HDFS, KEY).labels.tolist() == [0, 1, 1]
    labelled(labels_beside(second), "BlockId,Label\nblk_1,Anomaly\n")
    with pytest.raises(LabelError, match=r"b\.log\.labels\.csv, row 2: 'blk_1' has had another"):
        read_session_log([first, second], HDFS, KEY)


@pytest.mark.parametrize("system", ["hdfs", "spirit"])
def test_a_prepared_log_has_the_sessions_of_the_log(here: Path, system: str) -> None:
    profile = load_system(system)
    path = simulated(here, system, "one.log")
    prepare(path, system=system)
    assert (Path("made") / "manifest.json").is_file()
    for text in ("key", "20", "90s"):
        if text == "key" and system == "spirit":
            continue
        of_log = read_session_log(path, profile, session_rule(text))
        labels = labels_beside(path) if text == "key" else None
        of_folder = read_session_log(Path("made"), profile, session_rule(text), labels)
        assert of_folder.sessions.keys == of_log.sessions.keys
        assert of_folder.lines.templates == of_log.lines.templates
        for name in ("rows", "labels"):
            assert np.array_equal(getattr(of_folder, name), getattr(of_log, name))
        assert np.array_equal(of_folder.sessions.starts, of_log.sessions.starts)
        assert of_folder.lines.vectors is not None
        assert of_folder.lines.vectors.rows.keys() == set(of_log.lines.templates)


def test_prepared_logs_and_logs_are_read_as_one(here: Path) -> None:
    first = blocks(here / "a.log", ("got", "blk_1"), ("lost", "blk_2"))
    second = blocks(here / "b.log", ("lost", "blk_1"), ("sent", "blk_3"))
    prepare(second, system="hdfs")
    mixed = read_session_log([first, Path("made")], HDFS, KEY)
    plain = read_session_log([first, second], HDFS, KEY)
    assert spoken(mixed) == spoken(plain)
    assert mixed.lines.templates == plain.lines.templates
    assert mixed.lines.vectors is None


def test_how_sessions_are_made_is_no_matter_of_a_prepared_log(here: Path) -> None:
    prepare(blocks(here / "a.log", ("got", "blk_1"), ("lost", "blk_2")), system="hdfs")
    other = HDFS.model_copy(update={"sessions": TWENTY, "judged": "lines"})
    assert len(read_session_log(Path("made"), other, TWENTY)) == 1


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("session,label", ["blk_1,alert", "blk_2,normal", "blk_9,1", "blk_2,0"]),
        ("BlockId,Label", ["blk_1,Anomaly", "blk_2,Normal", "blk_9,Normal"]),
        ("block_id;anomalous", ["blk_1;1", "blk_2;0", "blk_9;0"]),
        ("LABEL,note,INSTANCE_ID", ['1,"a, b",blk_1', "-,, blk_2 ", "unsure,,blk_9"]),
    ],
)
def test_files_of_labels_are_written_in_several_ways(
    tmp_path: Path, header: str, rows: Iterable[str]
) -> None:
    path = blocks(tmp_path / "log", ("got", "blk_1"), ("lost", "blk_2"), ("got", "blk_3"))
    labels = labelled(tmp_path / "labels.csv", "\n".join([header, *rows]) + "\n")
    log = read_session_log(path, HDFS, KEY, labels)
    assert log.labels.tolist() == [1, 0, NO_LABEL]
    assert log.labels.dtype == np.int8
    assert log.labels_elsewhere == 1


def test_a_given_file_of_labels_counts_more_than_one_beside_the_log(tmp_path: Path) -> None:
    path = blocks(tmp_path / "log", ("got", "blk_1"), ("lost", "blk_2"))
    labelled(labels_beside(path), "BlockId,Label\nblk_1,Anomaly\nblk_2,Anomaly\n")
    labels = labelled(tmp_path / "mine.csv", "session,label\nblk_1,normal\nblk_2,?\n")
    assert read_session_log(path, HDFS, KEY).labels.tolist() == [1, 1]
    assert read_session_log(path, HDFS, KEY, labels).labels.tolist() == [0, NO_LABEL]
    # What lies beside it names blocks: it says nothing of windows, and a given one may.
    windows = labelled(tmp_path / "windows.csv", "session,label\n1,normal\n2,alert\n")
    one = session_rule("1")
    assert read_session_log(path, HDFS, one).labels.tolist() == [NO_LABEL] * 2
    assert read_session_log(path, HDFS, one, windows).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "are empty"),
        ("session,label\n", "hold none: every row is blank"),
        ("session,label\nblk_1,\n", "hold none: every row is blank"),
        ("session,label,Label\nblk_1,alert,normal\n", "say twice what a session is called"),
        ("session,BlockId,label\nblk_1,blk_1,alert\n", "say twice what a session is called"),
        (
            "session,label\nblk_7,alert\n",
            "of 'blk_7' and the like, and its first session is",
        ),
        ("line,label\n1,alert\n", "and these are line, label"),
        ("session,verdict\nblk_1,alert\n", "and these are session, verdict"),
        ("session,label\nblk_1,bad\n", "row 2: 'bad' is no label"),
        ("session,label\nblk_1,1\nblk_2,1\nblk_1,0\n", "row 4: 'blk_1' has had another label"),
        ("session,label\nblk_1,1\nblk_1,unsure\n", "row 3: 'blk_1' has had another label"),
        ("session,label\n ,alert\n", "row 2: a label without a session"),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = blocks(tmp_path / "log", ("got", "blk_1"), ("lost", "blk_2"))
    labels = labelled(tmp_path / "labels.csv", text)
    with pytest.raises(LabelError) as caught:
        read_session_log(path, HDFS, KEY, labels)
    assert said in str(caught.value)
    assert str(labels) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_log_that_has_no_sessions_is_refused_in_one_line(tmp_path: Path) -> None:
    def said(path: Path | list[Path], system: str, rule: str) -> str:
        with pytest.raises(InputError) as caught:
            read_session_log(path, load_system(system), session_rule(rule))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    keyless = blocks(tmp_path / "hdfs.log", ("idle", ""), ("idle still", ""))
    assert f"{keyless}: no line has a key that the profile hdfs finds" in said(
        keyless, "hdfs", "key"
    )
    timeless = tmp_path / "nova.log"
    timeless.write_text("INFO nova.virt up\n", encoding="utf-8")
    assert "no line has a time that the profile openstack finds" in said(
        timeless, "openstack", "9s"
    )
    spirit = write_log(tmp_path / "spirit.log", *messages(30))
    assert "no sessions by key with the profile spirit: no line has a key" in said(
        spirit, "spirit", "key"
    )
    assert "no sessions by time with the profile plain: no line has a time" in said(
        spirit, "plain", "5m"
    )
    assert "is no log of hdfs: none of its 30 lines splits" in said([keyless, spirit], "hdfs", "20")
    empty = tmp_path / "empty.log"
    empty.touch()
    assert "empty.log: empty; a log with at least one line" in said(empty, "hdfs", "20")
    assert len(read_session_log([empty, spirit], SPIRIT, TWENTY)) == 2
    assert "cannot read" in said(tmp_path / "absent.log", "hdfs", "20")


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no development logs beside the checkout")
@pytest.mark.parametrize(
    ("system", "logs", "labels", "found"),
    [
        ("hdfs", ["hdfs.real"], "hdfs.real", (8_071, 250, 0)),
        (
            "openstack",
            ["openstack.real-mixed", "openstack.real-destroy"],
            "openstack.real",
            (1_281, 299, 0),
        ),
        ("bgl", ["bgl.reconstructed"], None, (6_787, 759, 0)),
    ],
)
def test_the_sessions_of_the_development_logs(
    system: str, logs: list[str], labels: str | None, found: tuple[int, int, int]
) -> None:
    profile = load_system(system)
    assert profile.sessions is not None
    log = read_session_log(
        [SHARED_DATA / f"{name}.log.gz" for name in logs],
        profile,
        profile.sessions,
        SHARED_DATA / f"{labels}.labels.csv" if labels else None,
    )
    assert counted(log) == found
    assert log.labels_elsewhere == 0
