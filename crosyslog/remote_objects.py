"""The objects of a store that is named by a URL, through fsspec: S3, GCS, a file system, memory.

All that a shared store needs are seven operations, one of them conditional: `create` writes an
object that must not be there yet, and of writers at once exactly one succeeds. S3 does that with
`If-None-Match: *` and GCS with `ifGenerationMatch=0`, both by fsspec's `pipe_file(mode="create")`.
For local files fsspec looks first and then writes, so that two can pass; there it is done with a
hard link, and a plain write with a rename, so that nobody reads half an object.

Listings are never taken from a cache: what others have written has to be seen.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import tempfile
import threading
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from crosyslog.errors import StoreAwayError, StoreError
from crosyslog.store_urls import require_package
from crosyslog.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: fsspec's file system in memory looks, and then writes: within a process, one after the other.
_MEMORY_TURN = threading.RLock()

#: What no waiting helps against; whatever else goes wrong may be the network.
_REFUSALS = {
    errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EROFS, errno.ENOSPC, errno.EDQUOT,
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR,
}  # fmt: skip

#: The same for errors of the cloud libraries, which are not imported to be named.
_CREDENTIAL_ERRORS = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound",
    "TokenRetrievalError", "UnauthorizedSSOTokenError", "DefaultCredentialsError",
    "MalformedError", "ConfigParseError", "ParamValidationError",
}  # fmt: skip

_MOST_SAID = 200


class RemoteObjects:
    """Objects below a URL, named by their path from there."""

    def __init__(self, url: str) -> None:
        """Names the place; nothing is asked yet.

        Args:
            url: as `checked_url` returned it.

        Raises:
            StoreError: a package is missing.
        """
        require_package(url)
        self.url = url
        self._protocol = url.partition("://")[0]
        self._turn = _MEMORY_TURN if self._protocol == "memory" else nullcontext()
        self._seen_bucket = False
        self._seen_condition = self._protocol in {"file", "memory"}

    def names(self, folder: str) -> list[str]:
        """The names of what is directly in a folder; none if it is not there. One call."""
        files, root = self._opened
        with self._asking():
            try:
                found = files.ls(f"{root}/{folder}", detail=False)
            except (FileNotFoundError, NotADirectoryError):
                found = []
        if not found:
            self._require_place()
        return [path.rstrip("/").rpartition("/")[2] for path in found]

    def below(self, folder: str) -> list[str]:
        """The paths of all objects in a folder and its folders. One call for 1,000 of them."""
        files, root = self._opened
        start = f"{root}/{folder}" if folder else root
        with self._asking():
            try:
                found = files.find(start)
            except FileNotFoundError:
                found = []
        if not found or self._protocol == "file":
            self._require_place()
        return [path[len(root) + 1 :] for path in found]

    def read(self, path: str) -> bytes | None:
        """An object's content; none if it is not there."""
        files, root = self._opened
        with self._asking():
            try:
                return bytes(files.cat_file(f"{root}/{path}"))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, path: str, content: bytes) -> None:
        """Writes an object, whole or not at all, whatever is there."""
        files, root = self._opened
        with self._asking():
            if self._protocol == "file":
                _write_file(Path(root) / path, content, new=False)
            else:
                files.pipe_file(f"{root}/{path}", content)

    def create(self, path: str, content: bytes) -> bool:
        """Writes an object that must not be there yet; of several writers, one succeeds.

        Args:
            path: of the object.
            content: that nobody else would write: by it, one's own object is known again where
                the answer to the first try was lost.

        Returns:
            Whether this object is there now, and not another's.

        Raises:
            StoreError: the place cannot refuse the second of two writers.
        """
        self._require_condition(path)
        try:
            with self._asking():
                self._create(path, content)
        except StoreError:
            there = self.read(path)
            if there is None:
                raise
            return there == content
        return True

    def delete(self, paths: Iterable[str]) -> None:
        """Deletes objects in this order; one that is not there is none to delete."""
        files, root = self._opened
        for path in paths:
            with self._asking(), suppress(FileNotFoundError):
                files.rm_file(f"{root}/{path}")
                if self._protocol == "file":
                    with suppress(OSError):  # others are in it
                        (Path(root) / path).parent.rmdir()

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system, and the path in it that the URL names."""
        import fsspec  # type: ignore[import-untyped]

        # It logs a traceback of each error that is told in one line here.
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
        with self._asking():
            files, root = fsspec.url_to_fs(
                self.url, use_listings_cache=False, skip_instance_cache=True
            )
        return files, str(root).rstrip("/")

    def _create(self, path: str, content: bytes) -> None:
        files, root = self._opened
        if self._protocol == "file":
            _write_file(Path(root) / path, content, new=True)
        else:
            files.pipe_file(f"{root}/{path}", content, mode="create")

    def _require_condition(self, path: str) -> None:
        """Tries once that the second of two writers is refused: not all that speaks S3 does it.

        Raises:
            StoreError: both were let through.
        """
        if self._seen_condition:
            return
        probe = f"{path}.probe-{uuid4().hex}"
        with self._asking():
            self._create(probe, b"")
        refused = False
        try:
            self._create(probe, b"")
        except Exception:  # noqa: BLE001 - each library says it in a way of its own
            refused = True
        self.delete([probe])
        if not refused:
            raise StoreError(
                f"the store {self.url} knows no conditional writes, so that of two who write at "
                "once one would undo the other's work: use a place that has them, or a folder"
            )
        self._seen_condition = True

    def _require_place(self) -> None:
        """Tells an empty store from a bucket that is not there, or a file.

        Raises:
            StoreError: the place cannot hold a store.
        """
        files, root = self._opened
        if self._protocol == "file" and Path(root).exists() and not Path(root).is_dir():
            raise StoreError(f"the store {self.url} is no folder: name another one")
        if self._protocol in {"file", "memory"} or self._seen_bucket:
            return
        bucket = root.partition("/")[0]
        with self._asking():
            self._seen_bucket = bool(files.exists(bucket))
        if not self._seen_bucket:
            raise StoreError(
                f"cannot use the store {self.url}: there is no bucket {bucket!r}, or it may not be "
                "seen with these credentials"
            )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Whatever goes wrong is said in one line."""
        try:
            with self._turn:
                yield
        except StoreError:
            raise
        except Exception as error:
            raise _told(self.url, error) from error


def _told(url: str, error: Exception) -> StoreError:
    """What an error of a file system means to the user; what is away may come back."""
    name, code = type(error).__name__, getattr(error, "code", None)
    said = printable(" ".join(str(error).split())) or name
    # An address may hold a signature behind its `?`.
    said = re.sub(r"\?\S+", "", said)[:_MOST_SAID]
    if isinstance(error, PermissionError) or said.startswith("Forbidden") or code in {401, 403}:
        return StoreError(f"no right to use the store {url}: {said}")
    if name in _CREDENTIAL_ERRORS:
        return StoreError(f"no credentials for the store {url}: {said}")
    refused = isinstance(error, OSError) and error.errno in _REFUSALS
    unreal = isinstance(error, FileNotFoundError | FileExistsError | ValueError | TypeError)
    if refused or unreal or isinstance(error, ImportError):
        return StoreError(f"cannot use the store {url}: {said}")
    return StoreAwayError(f"cannot reach the store {url}: {said}")


def _write_file(path: Path, content: bytes, *, new: bool) -> None:
    """Writes a file as a whole, for its owner alone; it must be new, or replaces what is there."""
    for folder in reversed(path.parents):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            _link(Path(name), path)
        else:
            Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _link(path: Path, new: Path) -> None:
    """A second name, which must be new, for a file."""
    try:
        new.hardlink_to(path)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise StoreError(
                f"a store by URL needs a file system with hard links, and that of {new.parent} has "
                "none: name the folder without file://"
            ) from error
        raise
