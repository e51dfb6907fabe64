"""`trainer download` against a server that misbehaves: what arrives is whole, or no file at all."""

import gzip
import hashlib
import io
import json
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from crosyslog import terminal
from crosyslog.errors import CrosyslogError, InputError, SettingError
from trainer.cli import app
from trainer.downloading import Dataset, Download, Patience, download, fetching, load_datasets

LINES = 2_000
#: Hard to compress, so that there is a middle to break in.
LOG = b"".join(
    b"- %d %s\n" % (number, hashlib.sha256(b"%d" % number).hexdigest().encode())
    for number in range(LINES)
)
GZIPPED = gzip.compress(LOG, mtime=0)
MIDDLE = len(GZIPPED) // 2


class Publisher:
    """A file on a local server, and the ways in which it may go wrong."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.tag: str | None = '"first"'
        self.ranges = True
        self.heeds_if_range = True
        self.breaks_after: list[int] = []
        """Bytes after which a connection ends, one for each of the next requests."""
        self.stalls = False
        """Whether it then stays silent instead."""
        self.refuses_with: list[tuple[int, str]] = []
        """What it answers to the next requests."""
        self.leads_to: str | None = None
        self.requests: list[dict[str, str]] = []
        self.released = threading.Event()
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # a client that went away is what some tests are about

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append(asked)
        if self.refuses_with:
            handler.send_response(*self.refuses_with.pop(0))
            handler.send_header("Retry-After", "0")
            handler.end_headers()
            return
        if self.leads_to is not None:
            handler.send_response(302)
            handler.send_header("Location", self.leads_to)
            handler.end_headers()
            return
        body, size = self.content, len(self.content)
        same = not self.heeds_if_range or asked.get("if-range", self.tag) == self.tag
        if self.ranges and "range" in asked and same:
            start = int(asked["range"].removeprefix("bytes=").removesuffix("-"))
            body = body[start:]
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        if self.tag is not None:
            handler.send_header("ETag", self.tag)
        handler.end_headers()
        if not self.breaks_after:
            handler.wfile.write(body)
            return
        handler.wfile.write(body[: self.breaks_after.pop(0)])
        if self.stalls:
            self.released.wait(10)
        handler.close_connection = True


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Publisher]]:
    """Opens servers, and closes them in the end."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    opened = []

    def serve(content: bytes = GZIPPED) -> Publisher:
        publisher = Publisher(content)
        thread = threading.Thread(target=publisher.server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        opened.append((publisher, thread))
        return publisher

    yield serve
    for publisher, thread in opened:
        publisher.released.set()
        publisher.server.shutdown()
        publisher.server.server_close()
        thread.join()


@pytest.fixture
def publisher(publish: Callable[..., Publisher]) -> Publisher:
    return publish()


def dataset(publisher: Publisher, file: str = "made.gz", **known: object) -> Dataset:
    """The published file as the catalogue would describe it."""
    entry = {
        "name": "made",
        "system": "spirit",
        "publisher": load_datasets()["spirit"].publisher,
        "about": "made for a test",
        "address": f"{publisher.address}/{file}",
        "size": len(publisher.content),
        "lines": LINES,
    }
    return Dataset.model_validate(entry | known)


def get(
    wanted: Dataset,
    root: Path,
    *,
    tries: int = 3,
    timeout: float = 5.0,
    report: Callable[[str, int, int], None] = lambda *_: None,
) -> Download:
    patience = Patience(timeout=timeout, tries=tries, wait=0.0)
    return download(wanted, root, report=report, patience=patience)


def refusal(wanted: Dataset, root: Path, *, tries: int = 3, timeout: float = 5.0) -> str:
    """The one line of a download that fails, after which nothing has a final name."""
    with pytest.raises(CrosyslogError) as caught:
        get(wanted, root, tries=tries, timeout=timeout)
    assert not final_files(root)
    line = str(caught.value)
    assert "\n" not in line
    return line


def final_files(root: Path) -> list[str]:
    return sorted(
        path.name
        for path in root.rglob("*")
        if path.is_file() and ".part" not in path.name and not path.name.startswith(".")
    )


def parts(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*.part*"))


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """A disk that takes no more: a write behind that size fails as on a full one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def zipped(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


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


def test_a_broken_connection_is_gone_on_from(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks_after = [MIDDLE, 1_000]
    got = get(dataset(publisher), tmp_path)
    assert got.logs[0].read_bytes() == GZIPPED
    assert [asked.get("range") for asked in publisher.requests] == [
        None,
        f"bytes={MIDDLE}-",
        f"bytes={MIDDLE + 1_000}-",
    ]
    assert publisher.requests[1]["if-range"] == publisher.tag


def test_tries_are_bounded_and_a_later_call_goes_on(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks_after = [100, 200, 300]
    line = refusal(dataset(publisher), tmp_path)
    assert f"the connection ended after 600 of {len(GZIPPED):,} bytes" in line
    assert "tried 3 times" in line
    assert "the same command goes on from there" in line
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert publisher.requests[3]["range"] == "bytes=600-"


def test_a_long_way_got_on_counts_as_no_failure(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_GETTING_ON", 1_000)
    publisher.breaks_after = [10_000] * 5
    assert get(dataset(publisher), tmp_path, tries=2).logs[0].read_bytes() == GZIPPED


def test_a_silent_server_is_given_up(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks_after, publisher.stalls = [MIDDLE, 0], True
    line = refusal(dataset(publisher), tmp_path, tries=2, timeout=0.2)
    assert "the server does not answer" in line
    assert f"{MIDDLE:,} bytes have arrived" in line
    assert (tmp_path / "made" / "made.gz.part").read_bytes() == GZIPPED[:MIDDLE]


def test_a_server_without_ranges_starts_over(publisher: Publisher, tmp_path: Path) -> None:
    publisher.ranges, publisher.breaks_after = False, [MIDDLE]
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert publisher.requests[1]["range"] == f"bytes={MIDDLE}-"


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_starts_over(
    publisher: Publisher, tmp_path: Path, *, heeds_if_range: bool
) -> None:
    publisher.breaks_after = [MIDDLE]
    wanted = dataset(publisher, exact=False)
    refusal(wanted, tmp_path, tries=1)
    changed = bytes(reversed(LOG[:-1])) + b"\n"
    publisher.content, publisher.tag = gzip.compress(changed, mtime=0), '"second"'
    publisher.heeds_if_range = heeds_if_range
    assert gzip.decompress(get(wanted, tmp_path).logs[0].read_bytes()) == changed


def test_without_a_tag_only_a_sum_lets_it_go_on(publisher: Publisher, tmp_path: Path) -> None:
    publisher.tag, publisher.breaks_after = None, [MIDDLE, MIDDLE]
    get(dataset(publisher), tmp_path / "without")
    assert not any("range" in asked for asked in publisher.requests)
    publisher.breaks_after = [MIDDLE]
    md5 = hashlib.md5(GZIPPED, usedforsecurity=False).hexdigest()
    got = get(dataset(publisher, md5=md5), tmp_path / "with")
    assert got.logs[0].read_bytes() == GZIPPED
    assert publisher.requests[-1]["range"] == f"bytes={MIDDLE}-"


def test_a_part_that_the_server_cannot_place_starts_over(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.breaks_after = [MIDDLE]
    refusal(dataset(publisher), tmp_path, tries=1)
    publisher.refuses_with = [(416, "Range Not Satisfiable")]
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert "range" not in publisher.requests[-1]


def test_a_part_that_nothing_is_known_of_starts_over(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "made.gz.part").write_bytes(b"of somebody else")
    (tmp_path / "made" / "made.gz.part.json").write_text('{"address": 1')
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert "range" not in publisher.requests[0]


def test_another_size_than_known_is_refused_at_once(publisher: Publisher, tmp_path: Path) -> None:
    line = refusal(dataset(publisher, size=len(GZIPPED) + 1), tmp_path)
    assert f"has {len(GZIPPED):,} bytes instead of {len(GZIPPED) + 1:,}" in line
    assert len(publisher.requests) == 1
    assert not parts(tmp_path)


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
        ("made.tar.gz", gzip.compress(LOG)),
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


def test_a_full_disk_keeps_what_has_arrived(publisher: Publisher, tmp_path: Path) -> None:
    with files_no_longer_than(MIDDLE):
        line = refusal(dataset(publisher), tmp_path)
    assert "no room is left" in line
    assert len(publisher.requests) == 1
    assert (tmp_path / "made" / "made.gz.part").stat().st_size == MIDDLE
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert publisher.requests[1]["range"] == f"bytes={MIDDLE}-"


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


def test_a_refusal_is_not_asked_again(publisher: Publisher, tmp_path: Path) -> None:
    publisher.refuses_with = [(404, "Not Found")]
    line = refusal(dataset(publisher), tmp_path)
    assert "the server answers 404 Not Found" in line
    assert load_datasets()["spirit"].publisher.page in line
    assert len(publisher.requests) == 1


def test_a_server_that_is_busy_is_asked_again(publisher: Publisher, tmp_path: Path) -> None:
    publisher.refuses_with = [(503, "Service Unavailable"), (429, "Too Many Requests")]
    get(dataset(publisher), tmp_path)
    publisher.refuses_with = [(500, "Internal Server Error")] * 3
    assert "500 Internal Server Error" in refusal(dataset(publisher), tmp_path / "elsewhere")


def test_the_time_a_server_asks_for_is_bounded() -> None:
    def wait(asked: str) -> float:
        headers = Message()
        headers["Retry-After"] = asked
        return fetching._retry_after(headers)

    assert wait("7") == 7
    assert wait("86400") == 60
    assert wait("Wed, 21 Oct 2099 07:28:00 GMT") == 60
    assert wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert wait("soon") == 0


def test_a_connection_that_is_refused_is_one_line(publisher: Publisher, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        line = refusal(dataset(publisher, address=f"http://127.0.0.1:{port}/made.gz"), tmp_path)
    assert "Connection refused; tried 3 times" in line


def test_redirects_are_followed_few_and_never_out_of_tls(
    publisher: Publisher, publish: Callable[..., Publisher], tmp_path: Path
) -> None:
    gate = publish()
    gate.leads_to = f"{publisher.address}/made.gz"
    publisher.breaks_after = [MIDDLE]
    assert get(dataset(gate), tmp_path / "through").logs[0].read_bytes() == GZIPPED
    assert publisher.requests[1]["range"] == f"bytes={MIDDLE}-"

    gate.leads_to = f"{gate.address}/round"
    assert "the server answers 302" in refusal(dataset(gate), tmp_path / "round")
    gate.leads_to = "ftp://127.0.0.1/made.gz"
    assert "which is no https" in refusal(dataset(gate), tmp_path / "ftp")
    secure = urllib.request.Request("https://127.0.0.1/made.gz")
    with pytest.raises(InputError, match="which is no https"):
        fetching._FewSafeRedirects().redirect_request(
            secure, io.BytesIO(), 302, "Found", {}, publisher.address
        )


def test_an_interrupt_keeps_what_has_arrived(publisher: Publisher, tmp_path: Path) -> None:
    def interrupt(_: str, done: int, __: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(dataset(publisher), tmp_path, report=interrupt)
    arrived = (tmp_path / "made" / "made.gz.part").stat().st_size
    assert 0 < arrived < len(GZIPPED)
    assert get(dataset(publisher), tmp_path).logs[0].read_bytes() == GZIPPED
    assert publisher.requests[1]["range"] == f"bytes={arrived}-"


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


@pytest.fixture
def shipped(publisher: Publisher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Publisher:
    """A catalogue of one data set, which the command fetches into a folder of the test."""
    monkeypatch.setattr(
        "trainer.downloading.catalogue.load_datasets", lambda: {"made": dataset(publisher)}
    )
    monkeypatch.setenv("CROSYSLOG_DATA", str(tmp_path / "logs"))
    return publisher


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
