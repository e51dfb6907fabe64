"""A local server that publishes a data set and misbehaves, and downloads from it."""

import gzip
import hashlib
import io
import resource
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crosyslog.errors import CrosyslogError
from trainer.downloading import Dataset, Download, Patience, download, load_datasets

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
