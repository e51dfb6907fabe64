"""A bucket behind a network that can fail, for stores that are named by a URL."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

from crosyslog import store_urls

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

PROTOCOL = "cloud"

#: A store in the cloud.
URL = f"{PROTOCOL}://bucket/models"


class Network:
    """What a test does to the network, and what it sees of it.

    Attributes:
        calls: each that was made, by name.
        fault: raised in place of an answer.
        lost: names of the calls that take effect and whose answer never comes.
        heedless: whether a second object of the same name is taken, as some clones of S3 do.
        written: told of each object before it is written.
        called: told of each call before it is answered.
        buckets: that there are.
        turn: held while an object is written.
        answering: cleared, a call waits.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fault: BaseException | None = None
        self.lost: set[str] = set()
        self.heedless = False
        self.written: Callable[[str], None] = lambda _: None
        self.called: Callable[[str], None] = lambda _: None
        self.buckets = {"bucket"}
        self.turn = threading.RLock()
        self.answering = threading.Event()
        self.answering.set()

    def cut(self) -> None:
        """Nothing can be reached any more."""
        self.fault = ConnectionError(errno.ECONNREFUSED, "Connection refused")

    def mend(self) -> None:
        self.fault = None

    def call(self, name: str) -> None:
        self.calls.append(name)
        self.called(name)
        self.answering.wait(30)
        if self.fault is not None:
            raise self.fault


class Cloud(MemoryFileSystem):  # type: ignore[misc]
    """Objects in memory, reached through the network."""

    protocol = PROTOCOL
    root_marker = ""
    network: ClassVar[Network]
    store: ClassVar[dict[str, Any]]
    pseudo_dirs: ClassVar[list[str]]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(f"{PROTOCOL}://").strip("/")

    def ls(self, path: str, detail: bool = True, **_: object) -> Any:  # noqa: ANN401
        self.network.call("ls")
        return super().ls(path, detail=detail)

    def find(self, path: str, **_: object) -> list[str]:
        self.network.call("find")
        return sorted(name for name in self.store if name.startswith(f"{path}/"))

    def cat_file(self, path: str, **_: object) -> bytes:
        self.network.call("cat_file")
        if path not in self.store:
            raise FileNotFoundError(path)
        return bytes(self.store[path].getvalue())

    def exists(self, path: str, **_: object) -> bool:
        self.network.call("exists")
        return path in self.network.buckets

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: object) -> None:
        self.network.written(path)
        self.network.call(mode)
        if path.partition("/")[0] not in self.network.buckets:
            raise FileNotFoundError(path)
        with self.network.turn:
            if mode == "create" and path in self.store and not self.network.heedless:
                raise FileExistsError(path)
            self.open(path, "wb", data=value)
        if mode in self.network.lost:
            self.network.lost.remove(mode)
            raise TimeoutError("no answer")

    def rm_file(self, path: str) -> None:
        self.network.call("rm_file")
        super().rm_file(path)


def connect(monkeypatch: pytest.MonkeyPatch) -> Network:
    """A new cloud whose bucket is at `cloud://bucket`, and the network before it."""
    Cloud.network, Cloud.store, Cloud.pseudo_dirs = Network(), {}, [""]
    fsspec.register_implementation(PROTOCOL, Cloud, clobber=True)
    monkeypatch.setitem(store_urls.PROTOCOLS, PROTOCOL, None)
    return Cloud.network
