"""The store: adapted bundles by target and version, and which one is current.

`<store>/<target>/<version>/` and a file `<store>/<target>/current` that is replaced atomically.
Beside them, `labels.csv` holds what `trainer label` was told.
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
from typing import TYPE_CHECKING, Literal, get_args

from crosyslog.errors import StoreError

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
    """The bundles in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

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
            there = ", ".join(self.versions(target)) or "none"
            raise StoreError(f"{target} has no version {version!r} in {self.root}: it has {there}")
        return self._folder(target) / version

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
        versions = self.versions(target)
        if not versions:
            raise StoreError(f"{target} has no bundle in {self.root}")
        current = self.current(target)
        old, left = [], keep
        for version in reversed(versions):
            if not left and version != current:
                old.append(version)
            elif left and sound(version):
                left -= 1
        old.reverse()
        try:
            for version in old:
                shutil.rmtree(self._folder(target) / version)
        except OSError as error:
            raise StoreError(f"cannot write to the store {self.root}: {error.strerror}") from error
        return old

    def _folder(self, target: str) -> Path:
        if not can_name_target(target):
            raise StoreError(
                f"{target!r} cannot name a target: use letters, digits, dots, dashes and "
                "underscores, a letter or digit first, at most 200 of them"
            )
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


@dataclass(frozen=True)
class Model:
    """What a stream is judged by.

    Attributes:
        bundle: the model itself.
        system: the profile that splits the stream's lines.
        adapted: whether the bundle was adapted to this system, or is a base.
    """

    bundle: Bundle
    system: System
    adapted: bool


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


def target_of_topic(topic: str) -> str:
    """The target that a topic's name stands for: `spirit-logs` is for `spirit`."""
    for ending in _TOPIC_ENDINGS:
        if topic.endswith(ending) and topic != ending:
            return topic.removesuffix(ending)
    return topic


def find_model(store: Store, target: str, base: str = DEFAULT_BASE) -> Model:
    """The current bundle of a target; without one, a base with the profile of that name, or plain.

    Raises:
        StoreError: the store cannot be read, or holds versions of which none is in use.
        BundleError: the bundle cannot be loaded.
    """
    from crosyslog.bundle import load_bundle
    from crosyslog.systems import load_system, system_names

    named = can_name_target(target)
    version = store.current(target) if named else None
    kept = store.versions(target) if named else []
    if kept and version not in kept:
        # To fall back to a base would change every score without a word.
        raise StoreError(
            f"none of the versions of {target} in {store.root} is in use ({', '.join(kept)}): "
            f"choose one with `trainer models use {target} VERSION`"
        )
    if version is not None:
        bundle = load_bundle(store.path(target, version))
        system = bundle.manifest.system or load_system("plain")
        return Model(bundle, system, adapted=True)
    bundle = load_bundle(base_path(base))
    system = load_system(target if target in system_names() else "plain")
    return Model(bundle, system, adapted=False)
