"""Which stores can be named by a URL, and what such a URL may hold.

Nothing is imported here that takes time: settings are read with it.
"""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from crosyslog.errors import StoreError
from crosyslog.locations import default_cache

if TYPE_CHECKING:
    from pathlib import Path

#: Protocols whose file systems can create an object that must not be there yet, which is what a
#: shared store stands on; each with the package that it needs, which the extra of `_EXTRAS` brings.
PROTOCOLS: dict[str, str | None] = {"file": None, "memory": None, "s3": "s3fs", "gs": "gcsfs"}

_EXTRAS = {"s3fs": "s3", "gcsfs": "gcs"}

_FORMS = "s3://bucket/path, gs://bucket/path or file:///path"


def is_url(location: str) -> bool:
    """Whether a store is meant by its URL, and not by a folder.

    So that a slash too few makes no folder of that name, `s3:/bucket` is one, too, and refused.
    """
    return re.match(r"[a-z][a-z0-9+.-]+:/|.*://", location) is not None


def checked_url(url: str) -> str:
    """A store's URL without a slash at its end.

    Raises:
        StoreError: no store can be there, or it holds what does not belong in a URL. A secret is
            not repeated.
    """
    protocol, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    secret = "@" in place or ":" in place or (protocol != "file" and "@" in rest)
    if secret or "?" in rest or "#" in rest:
        raise StoreError(
            f"the URL of a store is {_FORMS}, without user, password, port, `@`, `?` or `#`: name "
            "the place alone; credentials come from the environment or from the machine"
        )
    if protocol not in PROTOCOLS or "::" in rest:
        raise StoreError(
            f"a store cannot be at {url!r}: it is a folder, or {_FORMS}, where writers cannot "
            "undo each other's work"
        )
    segments = path.rstrip("/").split("/") if path.rstrip("/") else []
    wrong = (
        not url.isprintable()
        or any(segment in {"", ".", ".."} for segment in segments)
        or (protocol == "file" and (bool(place) or not segments))
        or (protocol != "file" and not place)
    )
    if wrong:
        raise StoreError(f"{url!r} names no place of a store: write it as {_FORMS}")
    return "/".join([f"{protocol}://{place}", *segments])


def require_package(url: str) -> None:
    """Checks that what reaches a URL is installed.

    Raises:
        StoreError: it is not.
    """
    package = PROTOCOLS[url.partition("://")[0]]
    if package is not None and find_spec(package) is None:
        raise StoreError(
            f"the store {url} needs the package {package}, which is not installed: "
            f"`pip install 'crosyslog[{_EXTRAS[package]}]'`"
        )


def mirror_of(url: str, cache: Path | None = None) -> Path:
    """The folder that holds copies of a URL's bundles.

    Args:
        url: of the store.
        cache: the folder of caches; the user's unless given.
    """
    digest = hashlib.sha256(url.encode()).hexdigest()[:32]
    return (cache or default_cache()) / "stores" / digest
