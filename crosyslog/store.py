"""The store: adapted bundles by target and version, and which one is current.

`<store>/<target>/<version>/` and a file `<store>/<target>/current` that is replaced atomically.
Beside them, `labels.csv` holds what `trainer label` was told.
A store that is named by a URL is laid out otherwise: see `crosyslog.remote_store`.
The bases that ship with the package are found here too.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from crosyslog.errors import StoreAwayError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crosyslog.bundle import Bundle
    from crosyslog.systems import System

#: The base that is used when nobody names one: all four sources.
DEFAULT_BASE = "base"

#: The detectors there are; the first is what a user gets who does not ask for another.
DetectorKind = Literal["evidence", "maml_lstm"]
DETECTORS: tuple[DetectorKind, ...] = get_args(DetectorKind)

_CURRENT, _LABELS = "current", "labels.csv"
_VERSION = re.compile(r"\d{4,}")
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_TOPIC_ENDINGS = ("-logs", "_logs", ".logs")


class Store:
    """The bundles in a folder.

    Attributes:
        root: the folder.
        location: where the store is, as its user named it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = str(root)

    def targets(self) -> list[str]:
        """The targets that have a bundle, sorted."""
        self._check_root()
        if not self.root.is_dir():
            return []
        return sorted(
            entry.name
            for entry in self.root.iterdir()
            if _TARGET.fullmatch(entry.name) and self.versions(entry.name)
        )

    def versions(self, target: str) -> list[str]:
        """The versions of a target, oldest first."""
        folder = self._folder(target)
        if not folder.is_dir():
            return []
        names = [
            entry.name
            for entry in folder.iterdir()
            if _VERSION.fullmatch(entry.name) and entry.is_dir()
        ]
        return sorted(names, key=int)

    def current(self, target: str) -> str | None:
        """The version that is in use; none if the target has no bundle."""
        try:
            version = (self._folder(target) / _CURRENT).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(
                f"cannot read which bundle of {target} is current: {error.strerror}"
            ) from error
        except UnicodeDecodeError:
            version = ""
        if not _VERSION.fullmatch(version):
            raise StoreError(
                f"{self._folder(target) / _CURRENT} names no version: "
                f"choose one with `trainer models use {target} VERSION`"
            )
        return version

    def labels(self, target: str) -> Path:
        """The file of a target's labels that `trainer label` keeps; it need not exist."""
        return self._folder(target) / _LABELS

    def path(self, target: str, version: str) -> Path:
        """The folder of a bundle.

        Raises:
            StoreError: there is no such bundle.
        """
        if version not in self.versions(target):
            raise self._no_version(target, version)
        return self._folder(target) / version

    def in_use(self, target: str) -> Path | None:
        """The folder of the bundle that is in use; none if the target has no bundle.

        Raises:
            StoreError: there are bundles, and none of them is in use.
        """
        version, kept = self.current(target), self.versions(target)
        if kept and version not in kept:
            # To fall back to a base would change every score without a word.
            raise StoreError(
                f"none of the versions of {target} in {self.location} is in use "
                f"({', '.join(kept)}): choose one with `trainer models use {target} VERSION`"
            )
        return None if version is None else self.path(target, version)

    def last_known(self, target: str) -> Path | None:  # noqa: ARG002 - for stores that have one
        """A copy of the bundle that was in use when a store was seen last that is away now."""
        return None

    def next_version(self, target: str) -> str:
        """The version that the next bundle of a target gets."""
        versions = self.versions(target)
        return f"{int(versions[-1]) + 1 if versions else 1:04d}"

    def add(self, target: str, write: Callable[[Path, str], None]) -> str:
        """Adds a bundle, whole or not at all, and makes it the current one.

        Args:
            target: the system that it is for.
            write: writes the bundle into the folder it is given, which does not exist yet, as
                the version it is given.

        Returns:
            The version that the bundle got.

        Raises:
            StoreError: the store cannot be written.
        """
        folder = self._folder(target)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as scratch:
                while True:
                    version = self.next_version(target)
                    made = Path(scratch) / version
                    write(made, version)
                    try:
                        made.rename(folder / version)
                        break
                    except OSError:
                        # Another process took this version between the look and the rename.
                        if version not in self.versions(target):
                            raise
                        shutil.rmtree(made)
            self._set_current(target, version)
        except OSError as error:
            raise StoreError(f"cannot write to the store {self.root}: {error.strerror}") from error
        return version

    def use(self, target: str, version: str) -> None:
        """Makes a version the current one.

        Raises:
            StoreError: there is no such version, or the store cannot be written.
        """
        self.path(target, version)
        try:
            self._set_current(target, version)
        except OSError as error:
            raise StoreError(f"cannot write to the store {self.root}: {error.strerror}") from error

    def remove(
        self, target: str, keep: int, sound: Callable[[str], bool] = lambda _: True
    ) -> list[str]:
        """Removes the oldest versions of a target, never the current one.

        Args:
            target: the system.
            keep: how many of the newest stay.
            sound: whether a version can be used; one that cannot does not count among those that
                stay, and stays only where it is newer than these.

        Returns:
            The versions that were removed.

        Raises:
            StoreError: the target has no bundle, or the store cannot be written.
        """
        old = self._to_remove(target, keep, sound)
        try:
            for version in old:
                shutil.rmtree(self._folder(target) / version)
        except OSError as error:
            raise StoreError(f"cannot write to the store {self.root}: {error.strerror}") from error
        return old

    def _to_remove(self, target: str, keep: int, sound: Callable[[str], bool]) -> list[str]:
        versions = self.versions(target)
        if not versions:
            raise StoreError(f"{target} has no bundle in {self.location}")
        current = self.current(target)
        old, left = [], keep
        for version in reversed(versions):
            if not left and version != current:
                old.append(version)
            elif left and sound(version):
                left -= 1
        return old[::-1]

    def _no_version(self, target: str, version: str) -> StoreError:
        there = ", ".join(self.versions(target)) or "none"
        return StoreError(f"{target} has no version {version!r} in {self.location}: it has {there}")

    def _folder(self, target: str) -> Path:
        require_target(target)
        self._check_root()
        return self.root / target

    def _check_root(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"the store {self.root} is no folder: name another one")

    def _set_current(self, target: str, version: str) -> None:
        folder = self._folder(target)
        handle, name = tempfile.mkstemp(prefix=".current-", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(version + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(folder / _CURRENT)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def open_store(location: str | Path, cache: Path | None = None) -> Store:
    """The store at a place; nothing is read yet.

    Args:
        location: a folder, or the URL of a store that several machines share.
        cache: the folder of caches, in which a URL's bundles are copied; the user's unless given.

    Raises:
        StoreError: no store can be there, or a package is missing that reaches it.
    """
    from crosyslog.store_urls import is_url

    if isinstance(location, Path) or not is_url(location):
        return Store(Path(location))
    from crosyslog.remote_store import RemoteStore

    return RemoteStore(location, cache)


@dataclass(frozen=True)
class Model:
    """What a stream is judged by.

    Attributes:
        bundle: the model itself.
        system: the profile that splits the stream's lines.
        adapted: whether the bundle was adapted to this system, or is a base.
        away: why the store could not be asked, so that the bundle is the one that was in use when
            it was seen last; none if it could.
    """

    bundle: Bundle
    system: System
    adapted: bool
    away: str | None = None


def base_names() -> list[str]:
    """The bases that ship with the package, sorted; each is there for every one of `DETECTORS`."""
    return sorted(
        entry.name
        for entry in files("crosyslog.bases").iterdir()
        if entry.joinpath(DETECTORS[0], "manifest.json").is_file()
    )


def base_path(name: str, detector: DetectorKind | None = None) -> Path:
    """The folder of a base: a shipped one by name, or another by path.

    Args:
        name: which base.
        detector: of which kind; without one, the first of `DETECTORS` of a shipped base, and
            whatever a folder holds.

    Raises:
        StoreError: there is none, it is of another kind, or it was adapted to a system.
        BundleError: its manifest cannot be read.
    """
    if name in base_names():
        return Path(str(files("crosyslog.bases").joinpath(name, detector or DETECTORS[0])))
    path = Path(name)
    if path.is_dir():
        from crosyslog.manifest import load_manifest

        manifest, _ = load_manifest(path)
        if manifest.kind != "base":
            raise StoreError(
                f"{path} is no base: it was adapted to {manifest.target} already; start from what "
                f"it started from ({manifest.base})"
            )
        if detector is not None and manifest.detector.kind != detector:
            raise StoreError(
                f"the base {path} is of the detector {manifest.detector.kind}, and {detector} is "
                "asked for: name another base, or leave --detector out"
            )
        return path
    raise StoreError(
        f"there is no base {name!r}: it is one of {', '.join(base_names())}, or the folder that "
        "`trainer train` wrote"
    )


def can_name_target(name: str) -> bool:
    """Whether a target can be called so."""
    return bool(_TARGET.fullmatch(name))


def require_target(name: str) -> None:
    """Refuses a name that no target can have, with a StoreError."""
    if not can_name_target(name):
        raise StoreError(
            f"{name!r} cannot name a target: use letters, digits, dots, dashes and underscores, a "
            "letter or digit first, at most 200 of them"
        )


def target_of_topic(topic: str) -> str:
    """The target that a topic's name stands for: `spirit-logs` is for `spirit`."""
    for ending in _TOPIC_ENDINGS:
        if topic.endswith(ending) and topic != ending:
            return topic.removesuffix(ending)
    return topic


def find_model(
    store: Store, target: str, base: str = DEFAULT_BASE, *, last_known: bool = False
) -> Model:
    """The current bundle of a target; without one, a base with the profile of that name, or plain.

    Args:
        store: where bundles are.
        target: the system.
        base: which base, or its folder.
        last_known: where the store is away, take the bundle that was in use when it was seen last,
            if there is a copy of it. There is no falling back to a base then: it would change
            every score.

    Raises:
        StoreError: the store cannot be read, holds versions of which none is in use, or the one in
            use was adapted to another target.
        BundleError: the bundle cannot be loaded.
    """
    from crosyslog.bundle import load_bundle
    from crosyslog.systems import load_system, system_names

    used = version_in_use(store, target, last_known=last_known)
    if used is not None:
        return adapted_model(used.folder, used.away)
    bundle = load_bundle(base_path(base))
    system = load_system(target if target in system_names() else "plain")
    return Model(bundle, system, adapted=False)


class InUse(NamedTuple):
    """The version of a target that is in use.

    Attributes:
        folder: of its bundle.
        away: why the store could not be asked, so that it is the one that was in use when the
            store was seen last; none if it could.
    """

    folder: Path
    away: str | None


def version_in_use(store: Store, target: str, *, last_known: bool = False) -> InUse | None:
    """The version of a target that is in use, if it has any; what is in its folder is not read.

    Args:
        store: where bundles are.
        target: the system.
        last_known: as `find_model` has it.

    Raises:
        StoreError: the store cannot be read, or holds versions of which none is in use.
    """
    if not can_name_target(target):
        return None
    folder, away = None, None
    try:
        folder = store.in_use(target)
    except StoreAwayError as error:
        folder, away = store.last_known(target) if last_known else None, str(error)
        if folder is None:
            raise
    return None if folder is None else InUse(folder, away)


def require_own(folder: Path, adapted_to: str) -> None:
    """Refuses a bundle that lies in the folder of another target than it was adapted to.

    Raises:
        StoreError: it does.
    """
    target = folder.parent.name
    if adapted_to != target:
        raise StoreError(
            f"{target} {folder.name} was adapted to another target, {adapted_to!r}: choose another "
            f"version with `trainer models use`, or make one with `trainer adapt --target {target}`"
        )


def adapted_model(folder: Path, away: str | None = None) -> Model:
    """The model that a version's folder holds, of a store or of its mirror.

    Raises:
        StoreError: it was adapted to another target.
        BundleError: it cannot be loaded.
    """
    from crosyslog.bundle import load_bundle
    from crosyslog.systems import load_system

    bundle = load_bundle(folder)
    require_own(folder, bundle.manifest.target)
    return Model(bundle, bundle.manifest.system or load_system("plain"), adapted=True, away=away)
