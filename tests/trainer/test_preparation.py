"""`trainer prepare`: whatever the log, one folder."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import polars as pl
import pytest
import zstandard

from crosyslog.errors import InputError
from crosyslog.systems import load_system
from tests.fakes import FakeEncoder
from tests.pipes import piped
from tests.trainer.preparing import command, content_of, prepare, refused
from trainer import log_batches, preparation
from trainer.prepared_logs import PreparedLog

if TYPE_CHECKING:
    from collections.abc import Callable

SPIRIT = load_system("spirit")


class Watched:
    """Keeps what a watcher is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, float | None]] = []
        self.templates: list[tuple[int, int]] = []

    def read(self, lines: int, share: float | None) -> None:
        self.lines.append((lines, share))

    def encoded(self, templates: int, total: int) -> None:
        self.templates.append((templates, total))


pytestmark = pytest.mark.usefixtures("here")


def lines_of(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("lines-*.parquet"))])


# --- what is in the folder


def test_a_folder_holds_lines_templates_vectors_and_what_they_were_made_with(log: Path) -> None:
    with log.open("ab") as stream:
        stream.write(b"no header at all\n")
    prepare(log)
    folder = Path("made")
    lines = lines_of(folder)
    assert dict(lines.schema) == {
        "line": pl.Int64(),
        "time": pl.Datetime("us", "UTC"),
        "label": pl.Boolean(),
        "host": pl.UInt32(),
        "template": pl.UInt32(),
    }
    # Line 0 and line 9 are of the same host, and a line that does not split has none.
    assert lines["host"][0] == lines["host"][9] != lines["host"][1]
    assert lines["host"][2_000] == 0
    assert lines["line"].to_list() == list(range(2_001))
    assert str(lines["time"][0]) == "2005-01-01 08:01:01+00:00"
    assert lines["label"].null_count() == 1
    table = pl.read_parquet(folder / "templates.parquet")
    assert table["template"].to_list() == list(range(85))
    counted = lines.group_by("template").agg(
        pl.len().cast(pl.Int64).alias("lines"), pl.col("label").sum().cast(pl.Int64).alias("alerts")
    )
    assert counted.sort("template").equals(table.drop("text"))
    vectors = np.load(folder / "vectors.npy", allow_pickle=False)
    assert vectors.dtype == np.float16
    assert np.array_equal(vectors, FakeEncoder().encode(table["text"].to_list()))
    manifest = PreparedLog(folder).manifest
    assert (manifest.lines, manifest.unsplit, manifest.templates) == (2_001, 1, 85)
    assert manifest.alerts + manifest.normal == 2_000
    assert [dict(source) for source in manifest.logs] == [
        {"name": "spirit.log", "lines": 2_001, "unsplit": 1}
    ]
    assert manifest.system == SPIRIT
    assert manifest.encoder.id == FakeEncoder().id
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert str(Path.cwd()) not in (folder / "manifest.json").read_text(encoding="utf-8")


def test_sessions_are_kept_where_the_profile_knows_them(here: Path) -> None:
    profile = here / "own.toml"
    profile.write_text(
        'name = "own"\ndescription = "blocks"\n'
        "pattern = '''^(?P<session>blk_\\d+) (?P<message>.*)$'''\n",
        encoding="utf-8",
    )
    (here / "own.log").write_text("blk_1 received\nblk_2 received\nother\n", encoding="utf-8")
    prepare("own.log", system=str(profile))
    assert lines_of(Path("made"))["session"].to_list() == ["blk_1", "blk_2", None]


def test_the_same_lines_make_the_same_folder_however_they_come(
    log: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = log.read_bytes()
    lines = data.splitlines(keepends=True)
    (here / "a.gz").write_bytes(gzip.compress(b"".join(lines[:700])))
    (here / "b.zst").write_bytes(zstandard.compress(b"".join(lines[700:900])))
    (here / "c").write_bytes(b"".join(lines[900:]))
    prepare(log)
    prepare("a.gz", "b.zst", "c", output=Path("parts"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    prepare("-", output=Path("piped"))
    monkeypatch.setattr(log_batches, "_BATCH_LINES", 130)
    prepare(log, output=Path("small"))
    expected = content_of(Path("made"))
    assert content_of(Path("parts")) == expected
    assert content_of(Path("piped")) == expected
    assert content_of(Path("small")) == expected
    counts = [(source.name, source.lines) for source in PreparedLog(Path("parts")).manifest.logs]
    assert counts == [("a.gz", 700), ("b.zst", 200), ("c", 1100)]


def test_of_a_pipe_no_line_is_lost(log: Path) -> None:
    prepare(log)
    with piped(log.read_bytes()) as path:
        assert prepare(path, output=Path("piped")).lines == 2_000
    assert content_of(Path("piped")) == content_of(Path("made"))


def test_lines_leave_in_parts(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(log)
    monkeypatch.setattr(preparation, "_PART_LINES", 300)
    monkeypatch.setattr(log_batches, "_BATCH_LINES", 130)
    prepare(log, output=Path("parts"))
    assert len(list(Path("parts").glob("lines-*"))) == 6
    assert lines_of(Path("parts")).equals(lines_of(Path("made")))
    one, several = (PreparedLog(Path(name)).labelled() for name in ("made", "parts"))
    assert np.array_equal(one.rows, several.rows)


def test_batches_stay_small_whatever_the_lines(here: Path) -> None:
    mixed = [b"short\n"] * 30_000 + [b"x" * 2**20 + b"\n"] * 40 + [b"short\n"] * 200
    (here / "long.log").write_bytes(b"".join(mixed))
    sizes, seen = [], []
    for batch in log_batches.batches("long.log"):
        sizes.append(sum(map(len, batch)))
        seen += batch
        assert len(batch) <= 20_000
    assert seen == mixed
    assert max(sizes) < 17 * 2**20


def test_what_is_read_and_encoded_is_told(log: Path, here: Path) -> None:
    (here / "log.gz").write_bytes(gzip.compress(log.read_bytes()))
    for source in (log, here / "log.gz"):
        watched = Watched()
        prepare(source, output=here / source.suffix[1:], watcher=watched)
        assert watched.lines[-1] == (2_000, 1.0)
        assert watched.templates[-1] == (84, 84)


def test_of_a_pipe_only_lines_are_known(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(log.read_bytes())))
    watched = Watched()
    prepare("-", watcher=watched)
    assert watched.lines[-1] == (2_000, None)


# --- the command


def test_prepare_reports(
    log: Path, capfd: pytest.CaptureFixture[str], encoder: FakeEncoder
) -> None:
    with log.open("ab") as stream:
        stream.write(b"\x1b[31mno header\n")
    assert command("prepare", "--system", "spirit", "--log", log, "--output", "made") == 0
    shown = capfd.readouterr()
    assert shown.err == ""  # nothing but the report on a pipe
    assert "2,001 lines of spirit are prepared" in shown.out
    assert "unsplit      1 (0.0%)" in shown.out
    assert "spirit.log, line 2,001: \\x1b[31mno header" in shown.out
    arguments = ("prepare", "--system", "spirit", "--output", "made", "--replace", "--json")
    assert command(*arguments, "--log", log, log) == 0
    report = json.loads(capfd.readouterr().out)
    alerts = report["labels"].pop("alert")
    assert report == {
        "output": "made",
        "system": "spirit",
        "encoder": encoder.id,
        "masking": report["masking"],
        "lines": 4_002,
        "labels": {"normal": 4_000 - alerts, "none": 2},
        "templates": 85,
        "unsplit": 2,
        "first_unsplit": {"log": "spirit.log", "number": 2_001, "text": "\x1b[31mno header"},
        "logs": [{"name": "spirit.log", "lines": 2_001, "unsplit": 1}] * 2,
    }


def test_stopping_it_is_answered_in_one_line(
    log: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("crosyslog.encoder.load_encoder", interrupt)
    assert command("prepare", "--system", "spirit", "--log", log, "--output", "made") == 130
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("stopped, nothing is written; the same command ")
    assert shown.err.count("\n") == 1
    assert not Path("made").exists()


def test_a_second_run_encodes_nothing(log: Path, encoder: FakeEncoder) -> None:
    for output in ("one", "two"):
        assert command("prepare", "--system", "spirit", "--log", log, "--output", output) == 0
    assert len(encoder.encoded) == 84
    assert content_of(Path("one")) == content_of(Path("two"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--log", "nowhere"), "cannot read nowhere"),
        (("--log", "spirit.log", "nowhere"), "cannot read nowhere"),
        (("--log", "."), "cannot read ."),
        (("--log", "empty"), "empty: empty"),
        (("--log", "binary"), "binary is not a log"),
        (("--log", "cut.gz"), "cut.gz: its compressed data is broken"),
        (("--log", "cut.zst"), "cut.zst: its compressed data is broken"),
        (("--log", "spirit.log", "--system", "vax"), "unknown system 'vax'"),
        (("--log", "spirit.log", "--system", "bgl"), "none of 2,000 lines splits"),
        (("--log", "spirit.log", "--output", "taken"), "did not write it"),
        (("--log", "spirit.log", "--output", "taken", "--replace"), "did not write it"),
        (("--log", "spirit.log", "--output", "empty"), "did not write it"),
        (("--log", "spirit.log", "--output", "empty/made"), "cannot be"),
        (("--log", "-", "-"), "can be read once"),
        (("--log", "a", "b", "--log", "c"), "use one"),
        ((), "Missing option '--log'"),
    ],
)
def test_prepare_refuses(
    here: Path,
    log: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    (here / "empty").touch()
    (here / "binary").write_bytes(bytes(range(256)) * 100)
    (here / "cut.gz").write_bytes(gzip.compress(log.read_bytes())[:-100])
    (here / "cut.zst").write_bytes(zstandard.compress(log.read_bytes())[:-100])
    (here / "taken").mkdir()
    (here / "taken" / "precious").write_text("mine", encoding="utf-8")
    before = sorted(here.rglob("*"))
    given = ("--system", "spirit", "--output", "made", *arguments)
    assert said in refused(capfd, "prepare", *given)
    assert [path for path in sorted(here.rglob("*")) if "cache" not in path.parts] == before


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_standard_input_may_be_compressed(
    log: Path, monkeypatch: pytest.MonkeyPatch, compress: Callable[[bytes], bytes]
) -> None:
    prepare(log)
    given = io.BytesIO(compress(log.read_bytes()))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(given))
    prepare("-", output=Path("piped"))
    assert content_of(Path("piped")) == content_of(Path("made"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bytes(range(256)) * 20, "standard input is not a log: it holds binary data"),
        (gzip.compress(bytes(range(256)) * 20, mtime=0), "standard input is not a log"),
        (
            gzip.compress(b"a line\n", mtime=0)[:-5],
            "standard input: its compressed data is broken: ",
        ),
        (zstandard.compress(b"a line\n")[:-5], "standard input: its compressed data is broken: "),
    ],
)
def test_standard_input_that_is_no_log_is_refused(
    here: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    said: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    arguments = ("prepare", "--system", "plain", "--log", "-", "--output", "made")
    assert said in refused(capfd, *arguments)
    assert not (here / "made").exists()


def test_a_log_of_another_system_is_refused_long_before_its_end(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "other.log").write_text("what is this\n" * 5_000, encoding="utf-8")
    monkeypatch.setattr(log_batches, "_BATCH_LINES", 256)
    monkeypatch.setattr(preparation, "_HOPELESS_LINES", 1_000)
    with pytest.raises(InputError, match=r"none of 1,024 lines"):
        prepare("other.log")


def test_too_many_templates_are_refused(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "MOST_TEMPLATES", 50)
    with pytest.raises(InputError, match="more than 50 distinct templates"):
        prepare(log)
    assert not Path("made").exists()
