from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.errors import InputError
from crosyslog.lines import decode, read_lines, read_raw, split
from crosyslog.systems import System, load_system
from tests.pipes import piped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAIN = load_system("plain")
SPIRIT = load_system("spirit")
HEAD = "- 1107300000 2005.02.01 snode311 Feb  1 15:20:00 snode311/snode311 "


def system(pattern: str, **more: object) -> System:
    return System.model_validate(
        {"name": "ours", "description": "our own", "pattern": pattern, **more}
    )


def raw(path: Path) -> list[str]:
    return read_lines(path, PLAIN)["raw"].to_list()


def message(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_lines(path, PLAIN)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Bytes to text.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"as it is", "as it is"),
        ("größer".encode(), "größer"),
        ("größer".encode("latin-1"), "gr\ufffd\ufffder"),
        (b"cut \xe2\x82", "cut \ufffd"),
        (b"\xed\xa0\x80 is no character", "\ufffd\ufffd\ufffd is no character"),
        (b"unix\n", "unix"),
        (b"windows\r\n", "windows"),
        (b"\tan indent\t\n", "\tan indent\t"),
        (b"a\x00b", "a\x00b"),
        (b"a\rb\n", "a\rb"),
        (b"", ""),
        (b"\n", ""),
        (None, ""),
    ],
)
def test_bytes_become_text_and_are_never_refused(value: bytes | None, text: str) -> None:
    assert decode([value]).to_list() == [text]


def test_one_broken_line_leaves_its_neighbours_as_they_are() -> None:
    values = [b"before\n", None, b"\xff\xfe\r\n", "nach größer\n".encode()]
    assert decode(values).to_list() == ["before", "", "\ufffd\ufffd", "nach größer"]


def test_no_lines_are_no_text() -> None:
    assert decode([]).to_list() == []


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(st.none() | st.binary(max_size=30), max_size=5))
def test_decoding_is_that_of_python(values: list[bytes | None]) -> None:
    expected = [(value or b"").decode("utf-8", "replace").rstrip("\r\n") for value in values]
    assert decode(values).to_list() == expected


# Files.


@pytest.mark.parametrize("name", ["app.log", "app.log.gz", "app.log.zst"])
def test_a_log_is_read_plain_or_compressed(tmp_path: Path, name: str) -> None:
    content = b"first\nsecond\r\n\nfourth without an end"
    path = tmp_path / name
    if name.endswith(".gz"):
        content = gzip.compress(content[:9]) + gzip.compress(content[9:])
    elif name.endswith(".zst"):
        compress = zstandard.ZstdCompressor().compress
        content = compress(content[:9]) + compress(content[9:])
    path.write_bytes(content)
    assert raw(path) == ["first", "second", "", "fourth without an end"]
    assert raw(path) == read_lines(str(path), PLAIN)["raw"].to_list()


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_of_a_pipe_no_line_is_lost(compress: Callable[[bytes], bytes]) -> None:
    lines = [f"line {number} of a log that comes through a pipe" for number in range(3_000)]
    with piped(compress("\n".join(lines).encode())) as path:
        assert raw(path) == lines


@pytest.mark.parametrize("content", [b"x", b"\n", b"ab\nc"])
def test_a_pipe_may_hold_hardly_anything(content: bytes) -> None:
    with piped(content) as path:
        assert raw(path) == content.decode().splitlines()


def test_the_content_says_how_a_file_is_compressed_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "rotated.gz"
    path.write_bytes(b"plain after all\n")
    assert raw(path) == ["plain after all"]


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "app.log"
    line = f"a long enough line with one odd character{separator}in the middle of it"
    path.write_text(line + "\n", encoding="utf-8", newline="")
    assert raw(path) == [line]


def test_a_line_of_a_megabyte_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"x" * 1_000_000 + b"\nnext\n")
    assert [len(line) for line in raw(path)] == [1_000_000, 4]


def test_chunks_of_every_size_give_the_same_lines(tmp_path: Path) -> None:
    path = tmp_path / "app.log.zst"
    text = b"".join(b"line %d says \xff\n" % number for number in range(200))
    path.write_bytes(zstandard.ZstdCompressor().compress(text))
    whole = read_lines(path, SPIRIT)
    for size in (1, 7, 199, 200, 5_000):
        chunks = list(read_raw(path, size))
        assert max(map(len, chunks)) == min(size, 200)
        assert pl.concat(split(decode(chunk), SPIRIT) for chunk in chunks).equals(whole)


def test_a_stretch_of_nul_from_a_crash_is_still_a_log(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"before the crash\n" * 50 + b"\x00" * 200 + b"\nafter the crash\n")
    assert len(raw(path)) == 52


@pytest.mark.parametrize("hole", [8, 500, 200_000])
@pytest.mark.parametrize("after", [b"the only line\n", b"a line\nand another\n" * 20])
def test_a_log_may_begin_with_nul(tmp_path: Path, hole: int, after: bytes) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(bytes(hole) + after)
    first, *others = raw(path)
    assert first.strip("\0") == after.decode().splitlines()[0]
    assert others == after.decode().splitlines()[1:]


def test_lines_may_hold_more_nul_than_text(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes((b"began to write" + bytes(40) + b"\n") * 300)
    assert set(raw(path)) == {"began to write" + "\0" * 40}


def test_a_colourful_log_is_still_a_log(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"\x1b[31mred\x1b[0m\n" * 20)
    assert raw(path)[0] == "\x1b[31mred\x1b[0m"


def test_a_file_that_cannot_be_used_is_named_in_one_line(tmp_path: Path) -> None:
    absent, empty = tmp_path / "absent.log", tmp_path / "empty.log"
    empty.touch()
    assert message(absent) == f"cannot read {absent}: No such file or directory"
    assert message(tmp_path) == f"cannot read {tmp_path}: Is a directory"
    assert message(empty) == f"{empty} is empty: a log with at least one line is needed"
    for compress in (gzip.compress, zstandard.ZstdCompressor().compress):
        empty.write_bytes(compress(b""))
        assert message(empty).startswith(f"{empty} is empty")


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + np.random.default_rng(1).bytes(3_000),
        b"BZh91AY&SY" + np.random.default_rng(2).bytes(20_000),
        gzip.compress(b"\x7fELF\x02\x01\x01" + bytes(4_000), mtime=0),
        "a log in UTF-16\n".encode("utf-16") * 100,
        "a log in UTF-32\n".encode("utf-32") * 100,
        np.arange(32, 127).repeat(5).tobytes(),
        bytes(5_000),
        bytes(100_000) + np.random.default_rng(4).bytes(3_000),
    ],
    ids=[
        "image",
        "bzip2",
        "program in gzip",
        "UTF-16",
        "UTF-32",
        "numbers",
        "NUL alone",
        "NUL before an image",
    ],
)
def test_binary_data_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data"
    path.write_bytes(content)
    assert message(path) == (
        f"{path} is not a log: it holds binary data; use a text, plain or compressed with gzip "
        "or zstd"
    )


LOG = b"".join(np.random.default_rng(3).bytes(20).hex().encode() + b"\n" for _ in range(20_000))


def test_a_compressed_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    for compressed in (gzip.compress(LOG), zstandard.ZstdCompressor().compress(LOG)):
        for size in (len(compressed) // 2, len(compressed) - 1):
            path.write_bytes(compressed[:size])
            assert message(path).startswith(f"{path}: its compressed data is broken: ")


def test_a_compressed_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    checked = zstandard.ZstdCompressor(write_checksum=True)
    for compressed in (gzip.compress(LOG), checked.compress(LOG)):
        broken = bytearray(compressed)
        broken[len(broken) // 2] ^= 0xFF
        path.write_bytes(broken)
        assert message(path).startswith(f"{path}: its compressed data is broken: ")


# Text to fields.


def test_a_line_that_the_profile_does_not_know_is_judged_whole_and_marked() -> None:
    lines = split(pl.Series([HEAD + "sshd[7]: hello", "something else", ""]), SPIRIT)
    assert lines["split"].to_list() == [True, False, False]
    assert lines["text"].to_list() == ["sshd hello", "something else", ""]
    assert lines["message"].to_list() == ["hello", "something else", ""]
    unknown = lines.row(1, named=True)
    nothing = ("time", "host", "component", "severity", "label", "session")
    assert all(unknown[name] is None for name in nothing)


def test_a_label_other_than_the_normal_one_is_an_alert() -> None:
    line = HEAD + "kernel: tape lost"
    lines = split(pl.Series([line, "S_TAPE" + line[1:], line[2:]]), SPIRIT)
    assert lines["label"].to_list() == [False, True, None]


def test_a_message_may_hold_anything() -> None:
    odd = "tab\there, NUL \x00, a line\nbreak, \u2028, \U0001f40d, \x1b[31m"
    line = split(pl.Series([HEAD + "app: " + odd]), SPIRIT).row(0, named=True)
    assert line["split"]
    assert line["message"] == odd


def test_the_frame_has_the_same_columns_for_every_profile() -> None:
    frames = [
        split(pl.Series(name, values, dtype=pl.String), load_system(system_name))
        for name, values in (("raw", ["a"]), ("", []), ("^odd$", ["a", "b"]))
        for system_name in ("plain", "bgl", "spirit")
    ]
    assert len({tuple(frame.schema.items()) for frame in frames}) == 1
    assert [frame.height for frame in frames] == [1, 1, 1, 0, 0, 0, 2, 2, 2]
    assert frames[0].schema["time"] == pl.Datetime("us", "UTC")


def test_times_are_utc() -> None:
    local = system(r"^(?P<time>[^|]*)\|(?P<message>.*)$", time={"format": "%Y-%m-%dT%H:%M:%S%.f%z"})
    lines = split(pl.Series(["2024-01-02T03:04:05.25+02:00|x", "yesterday|x"]), local)
    assert lines["time"].to_list() == [datetime(2024, 1, 2, 1, 4, 5, 250_000, UTC), None]
    assert lines["split"].all()


@pytest.mark.parametrize(
    ("seconds", "year"),
    [
        ("0", 1970),
        ("1107300000", 2005),
        ("253402300799", 9999),
        ("253402300800", None),
        ("9223372036855", None),
        ("999999999999999999", None),
        ("99999999999999999999999", None),
        ("-99999999999", None),
        ("1.5", 1970),
        ("1e400", None),
        ("nan", None),
        ("", None),
    ],
)
def test_a_time_that_no_calendar_knows_is_no_time(seconds: str, year: int | None) -> None:
    any_epoch = system(r"^(?P<time>[^|]*)\|(?P<message>.*)$")
    line = split(pl.Series([seconds + "|x"]), any_epoch).row(0, named=True)
    assert line["message"] == "x"
    assert (line["time"] and line["time"].year) == year


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_no_bytes_fail(values: list[bytes]) -> None:
    heads = [HEAD.encode() + value for value in values]
    for name in ("plain", "bgl", "spirit"):
        lines = split(decode(values + heads), load_system(name))
        assert lines.height == 2 * len(values)
        assert lines["text"].null_count() == 0
        assert lines.rows() is not None
