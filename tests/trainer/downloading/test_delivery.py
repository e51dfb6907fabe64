"""What arrived is checked and named: a data set lies there whole, or no file of it does."""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from crosyslog.errors import SettingError
from tests.trainer.downloading.publisher import (
    GZIPPED,
    LINES,
    LOG,
    Publisher,
    dataset,
    files_no_longer_than,
    final_files,
    get,
    parts,
    refusal,
    tarred,
    zipped,
)


def test_a_log_is_fetched_whole_and_not_again(publisher: Publisher, tmp_path: Path) -> None:
    wanted = dataset(publisher, md5=hashlib.md5(GZIPPED, usedforsecurity=False).hexdigest())
    seen: list[tuple[str, int, int]] = []
    got = get(wanted, tmp_path, report=lambda *step: seen.append(step))
    assert got.fetched
    assert got.logs == (tmp_path / "made" / "made.gz",)
    assert got.logs[0].read_bytes() == GZIPPED
    assert got.size == len(GZIPPED)
    assert not parts(tmp_path)
    for step in ("fetching", "checking sum", "checking lines"):
        assert [entry for entry in seen if entry[0] == step][-1][1:] == (got.size, got.size)
    receipt = json.loads((tmp_path / "made" / "download.json").read_text())
    assert receipt["address"] == wanted.address
    assert receipt["licence"] == wanted.publisher.licence

    again = get(wanted, tmp_path)
    assert not again.fetched
    assert again.logs == got.logs
    assert again.size == got.size
    assert len(publisher.requests) == 1


def test_what_is_no_longer_whole_is_fetched_again(publisher: Publisher, tmp_path: Path) -> None:
    wanted = dataset(publisher)
    got = get(wanted, tmp_path)
    got.logs[0].write_bytes(GZIPPED[:100])
    assert get(wanted, tmp_path).logs[0].read_bytes() == GZIPPED
    (tmp_path / "made" / "download.json").write_text("[]")
    assert get(wanted, tmp_path).fetched
    assert len(publisher.requests) == 3


def test_another_sum_is_thrown_away(publisher: Publisher, tmp_path: Path) -> None:
    line = refusal(dataset(publisher, md5="0" * 32), tmp_path)
    assert f"instead of {'0' * 32}" in line
    assert not parts(tmp_path)


@pytest.mark.parametrize(
    ("lines", "said"),
    [(LINES - 1, f"more than the {LINES - 1:,} lines"), (LINES + 1, f"has {LINES:,} lines, and")],
)
def test_another_number_of_lines_is_thrown_away(
    publisher: Publisher, tmp_path: Path, lines: int, said: str
) -> None:
    line = refusal(dataset(publisher, lines=lines), tmp_path)
    assert said in line
    assert "it was thrown away" in line
    assert not parts(tmp_path)


def test_a_last_line_without_its_end_is_a_line(
    publish: Callable[..., Publisher], tmp_path: Path
) -> None:
    get(dataset(publish(gzip.compress(LOG[:-1]))), tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("made.gz", GZIPPED[:-20]),
        ("made.gz", GZIPPED[:-8] + bytes(8)),
        ("made.gz", b"<html>sign in to the guest network</html>"),
        ("made.zip", b"<html>sign in to the guest network</html>"),
        ("made.zip", zipped({"made.log": LOG})[: -len(LOG) // 10]),
        ("made.zip", zipped({"made.log": LOG}).replace(b"PK\x03\x04", b"PK\x03\x05", 1)),
        ("made.tar.gz", gzip.compress(LOG, mtime=0)),
        ("made.tar.gz", tarred({"made.log": LOG})[:-20]),
        ("made.tar.gz", tarred({"made.log": LOG})[:-8] + bytes(8)),
    ],
)
def test_what_is_damaged_is_thrown_away(
    publish: Callable[..., Publisher], tmp_path: Path, file: str, content: bytes
) -> None:
    logs = () if file == "made.gz" else ("made.log",)
    line = refusal(dataset(publish(content), file, logs=logs), tmp_path)
    assert f"{file} is damaged: " in line
    assert not parts(tmp_path)


def test_a_disk_that_fills_while_unpacking_keeps_the_archive(
    publish: Callable[..., Publisher], tmp_path: Path
) -> None:
    # The same line over and over: zip packs it tighter than the quick level of gzip does.
    log = b"".join(LOG.splitlines(keepends=True)[:50]) * 500
    publisher = publish(zipped({"made.log": log}))
    wanted = dataset(publisher, "made.zip", logs=("made.log",), lines=log.count(b"\n"))
    with files_no_longer_than(len(publisher.content) + 100):
        assert "no room is left" in refusal(wanted, tmp_path)
    assert parts(tmp_path) == ["made.zip.part", "made.zip.part.json"]
    assert gzip.decompress(get(wanted, tmp_path).logs[0].read_bytes()) == log
    assert len(publisher.requests) == 1


def test_too_little_room_is_said_before_anything_is_fetched(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000_000))
    line = refusal(dataset(publisher, size=4_000_000_000), tmp_path)
    assert "needs 4.0 GB more" in line
    assert "1.0 GB are free" in line
    assert "--output DIR" in line
    assert not publisher.requests


def test_two_at_once_do_not_spoil_each_other(publisher: Publisher, tmp_path: Path) -> None:
    lines: list[str] = []

    def second(step: str, _: int, __: int) -> None:
        if step == "fetching" and not lines:
            lines.append(refusal(dataset(publisher), tmp_path))

    assert get(dataset(publisher), tmp_path, report=second).logs[0].read_bytes() == GZIPPED
    assert "another download writes to" in lines[0]


@pytest.mark.parametrize(("pack", "file"), [(zipped, "made.zip"), (tarred, "made.tar.gz")])
def test_logs_and_labels_are_taken_out_of_archives(
    publish: Callable[..., Publisher],
    tmp_path: Path,
    pack: Callable[[dict[str, bytes]], bytes],
    file: str,
) -> None:
    half = LOG.index(b"\n", len(LOG) // 2) + 1
    publisher = publish(
        pack(
            {
                "README.md": b"read me",
                "made/one.log": LOG[:half],
                "../../../preprocessed/labels.csv": b"a,b\n",
                "/two.log": LOG[half:],
            }
        )
    )
    wanted = dataset(publisher, file, logs=("one.log", "two.log"), others=("labels.csv",))
    got = get(wanted, tmp_path)
    assert final_files(tmp_path) == ["download.json", "labels.csv", "one.log.gz", "two.log.gz"]
    assert {path.parent for path in (*got.logs, *got.others)} == {tmp_path / "made"}
    assert b"".join(gzip.decompress(path.read_bytes()) for path in got.logs) == LOG
    assert got.others[0].read_bytes() == b"a,b\n"
    assert not parts(tmp_path)
    assert not get(wanted, tmp_path).fetched


@pytest.mark.parametrize(("pack", "file"), [(zipped, "made.zip"), (tarred, "made.tar.gz")])
@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"README.md": b"", "labels.csv": b""}, "holds no made.log"),
        ({"made.log": LOG}, "holds no labels.csv"),
        ({"made.log": LOG, "more/made.log": LOG, "labels.csv": b""}, "more than the 2,000 lines"),
        ({"made.log": LOG, "labels.csv": b"", "more/labels.csv": b""}, "holds labels.csv twice"),
    ],
)
def test_an_archive_unlike_the_known_one_is_thrown_away(
    publish: Callable[..., Publisher],
    tmp_path: Path,
    pack: Callable[[dict[str, bytes]], bytes],
    file: str,
    members: dict[str, bytes],
    said: str,
) -> None:
    publisher = publish(pack(members))
    wanted = dataset(publisher, file, logs=("made.log",), others=("labels.csv",))
    line = refusal(wanted, tmp_path)
    assert said in line or (said.startswith("more than") and "holds made.log twice" in line)
    assert not parts(tmp_path)


def test_a_link_in_an_archive_is_no_log(publish: Callable[..., Publisher], tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("made.log")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(info)
    wanted = dataset(publish(packed.getvalue()), "made.tar.gz", logs=("made.log",))
    assert "holds no made.log" in refusal(wanted, tmp_path)


def test_a_folder_that_cannot_be_used_is_one_line(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "made").write_text("a file")
    with pytest.raises(SettingError, match="choose another with --output DIR"):
        get(dataset(publisher), tmp_path)
