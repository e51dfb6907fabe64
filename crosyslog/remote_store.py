"""A store that machines share: bundles at a URL, read through a local mirror.

    <url>/<target>/<version>/claim           who took the number; written first
    <url>/<target>/<version>/support.parquet
    <url>/<target>/<version>/weights.safetensors
    <url>/<target>/<version>/manifest.json   written last: a version without it is not there
    <url>/<target>/switches/00000007         the version that the 7th switch put in use

**Nothing is ever replaced.** All that matters is written by creating an object that must not be
there yet, the one conditional write that S3, GCS and file systems have in common.

*A version* is taken by creating its claim, so that two who add at once get two numbers. A number is
never given twice, even after its version was removed: the highest claim stays. Whoever was killed
in the middle leaves a claim and files that count for nothing; `remove` takes them after a day. By
a clock that is ahead, it may take those of an upload in progress: so `add` looks whether all is
there once the manifest is.

*Which version is in use* is what the switch with the highest number says. To switch is to create
the next number after the one that was seen: of two who saw the same one, the second is refused, is
told what is in use now, and decides again. `add` looks before it uploads, so that whoever goes back
to an older version meanwhile is not overruled: the new version is stored then, and not in use.
Who has switched looks whether the version is still there, and goes back if it is not; who removes
one looks whether it came into use meanwhile, and puts it back.
Old switches are tidied by `remove`, never the newest 100. A writer that slept so long that its
number was free again sees by the higher ones that it came too late. Where there is no switch, a
file `current` counts: a store's folder that was copied to a URL works as it is.

To look at what is in use is one listing, and one more read after a switch.

**The mirror** is a folder of the user's cache that is laid out as a store, for the owner alone. A
bundle is fetched into a folder beside, verified by the hashes of its manifest, and renamed. Before
a copy is used, its manifest is compared with the one at the URL, and its files with their hashes;
one that differs is fetched anew. Its `current` is the version that was in use when the store was
seen last; three versions are kept besides.

**Labels** stay on the machine where they were given, in the user's own store: they are one person's
work in progress, and log text. To adapt elsewhere, take `labels.csv` along, as `--labels`.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from crosyslog.errors import BundleCorruptError, BundleError, StoreError
from crosyslog.locations import user_store
from crosyslog.manifest import MANIFEST, load_manifest, read_verified
from crosyslog.remote_objects import RemoteObjects
from crosyslog.store import Store, can_name_target, require_target
from crosyslog.store_urls import checked_url, mirror_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CLAIM, _CURRENT, _SWITCHES = "claim", "current", "switches"
_VERSION = re.compile(r"\d{4,}")
_SWITCH = re.compile(r"\d{8,}")

#: Switches that stay, so that a number is not free again while anyone may still think it is next.
_KEPT_SWITCHES = 100

#: Versions that stay in the mirror beside the one in use.
_MIRRORED = 3

#: After this long, a version that is not whole is nobody's who still uploads.
_ABANDONED = timedelta(days=1)


class RemoteStore(Store):
    """The bundles at a URL.

    Attributes:
        root: the mirror.
        location: the URL.
    """

    def __init__(self, url: str, cache: Path | None = None) -> None:
        """Names the place; nothing is asked yet.

        Args:
            url: of the store.
            cache: the folder of caches; the user's unless given.

        Raises:
            StoreError: no store can be there, or a package is missing.
        """
        url = checked_url(url)
        super().__init__(mirror_of(url, cache))
        self.location = url
        self._objects = RemoteObjects(url)
        self._mirror = Store(self.root)
        self._switch_seen: dict[str, tuple[int, str]] = {}

    def targets(self) -> list[str]:
        """The targets that have a bundle, sorted."""
        paths: dict[str, list[str]] = {}
        for path in self._objects.below(""):
            paths.setdefault(path.partition("/")[0], []).append(path)
        return sorted(name for name in paths if can_name_target(name) and _whole(paths[name]))

    def versions(self, target: str) -> list[str]:
        """The versions of a target that are whole, oldest first."""
        require_target(target)
        return _whole(self._objects.below(target))

    def current(self, target: str) -> str | None:
        """The version that is in use; none if the target has no bundle."""
        require_target(target)
        return self._last_switch(target)[1]

    def labels(self, target: str) -> Path:
        """The file of a target's labels, which stay on this machine; it need not exist."""
        return Store(user_store()).labels(target)

    def path(self, target: str, version: str) -> Path:
        """The folder of a verified copy of a bundle.

        Raises:
            StoreError: there is no such bundle, or it cannot be copied.
            BundleError: it is damaged, or was made for another format.
        """
        require_target(target)
        named = _VERSION.fullmatch(version)
        manifest = self._objects.read(f"{target}/{version}/{MANIFEST}") if named else None
        if manifest is None:
            raise self._no_version(target, version)
        folder = self.root / target / version
        with self._mirroring():
            if not _is_copy(folder, manifest):
                self._fetch(target, version, manifest)
        return folder

    def next_version(self, target: str) -> str:
        """The version that the next bundle of a target gets."""
        require_target(target)
        return _after(self._objects.below(target))

    def in_use(self, target: str) -> Path | None:
        """The folder of a copy of the bundle that is in use; none if the target has no bundle."""
        folder = super().in_use(target)
        if folder is not None:
            with self._mirroring():
                self._mirror.use(target, folder.name)
            with suppress(StoreError):  # another process tidies it, too
                self._mirror.remove(target, _MIRRORED)
        return folder

    def last_known(self, target: str) -> Path | None:
        """A copy of the bundle that was in use when the store was seen last; none without one."""
        return self._mirror.in_use(target)

    def add(self, target: str, write: Callable[[Path, str], None]) -> str:
        """Adds a bundle, whole or not at all, and makes it the current one.

        Args:
            target: the system that it is for.
            write: writes the bundle into the folder it is given, which does not exist yet, as
                the version it is given.

        Returns:
            The version that the bundle got.

        Raises:
            StoreError: the store cannot be written; the bundle was removed meanwhile; or it is
                stored and not in use, since somebody else has put another version in use.
        """
        require_target(target)
        before, previous = self._last_switch(target)
        version = self._claim(target)
        with self._mirroring(), self._scratch(target) as scratch:
            made = scratch / version
            write(made, version)
            self._upload(f"{target}/{version}", made)
        if not self._switch(target, version, before):
            raise StoreError(
                f"{target} {version} is stored in {self.location}, but another switch came first: "
                f"{self.current(target)} is in use; `trainer models use {target} {version}` "
                "changes that"
            )
        self._require_there(target, version, before, previous)
        return version

    def use(self, target: str, version: str) -> None:
        """Makes a version the current one.

        Raises:
            StoreError: there is no such version, the store cannot be written, or somebody else has
                switched, or removed it, at the same time.
        """
        require_target(target)
        before, previous = self._last_switch(target)
        if version not in self.versions(target):
            raise self._no_version(target, version)
        if not self._switch(target, version, before):
            raise StoreError(
                f"another switch of {target} in {self.location} came first: {self.current(target)} "
                f"is in use; say it again if it shall be {version}"
            )
        self._require_there(target, version, before, previous)

    def remove(
        self, target: str, keep: int, sound: Callable[[str], bool] = lambda _: True
    ) -> list[str]:
        """Removes the oldest versions of a target, never the current one, and what is abandoned.

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
        old, removed = self._to_remove(target, keep, sound), []
        for version in old:
            place = f"{target}/{version}/{MANIFEST}"
            manifest = self._objects.read(place)
            if manifest is None:
                continue  # another one removes it, and may have to put it back yet
            self._objects.delete([place])
            if self.current(target) == version:
                # Somebody has put it in use since the look; whoever does so later is told.
                self._objects.write(place, manifest)
                continue
            removed.append(version)
        self._tidy(target, removed, set(old))
        return removed

    def _claim(self, target: str) -> str:
        """Takes the next version's number, which nobody else gets."""
        while True:
            version = self.next_version(target)
            content = f"{uuid4().hex} {datetime.now(UTC).isoformat()}\n"
            if self._objects.create(f"{target}/{version}/{_CLAIM}", content.encode()):
                return version

    def _upload(self, place: str, folder: Path) -> None:
        """Uploads a bundle, its manifest last; what fails in the middle is taken back."""
        names = sorted((path.name for path in folder.iterdir()), key=lambda name: name == MANIFEST)
        try:
            for name in names:
                self._objects.write(f"{place}/{name}", (folder / name).read_bytes())
            self._require_uploaded(place, names)
        except BaseException:
            with suppress(StoreError):
                self._objects.delete(f"{place}/{name}" for name in reversed(names))
            raise

    def _require_uploaded(self, place: str, names: list[str]) -> None:
        """Refuses an upload of which another machine has removed a part."""
        there = self._objects.below(place)
        if missing := [name for name in names if f"{place}/{name}" not in there]:
            raise StoreError(
                f"{self.location}/{place} was removed while it was uploaded ({', '.join(missing)}) "
                "and is taken back: see that the machines' clocks are right, and adapt again"
            )

    def _last_switch(self, target: str) -> tuple[int, str | None]:
        """The number of the last switch, 0 before the first, and the version it put in use."""
        numbers = _numbers(self._objects.names(f"{target}/{_SWITCHES}"))
        if not numbers:
            place = f"{target}/{_CURRENT}"
            content = self._objects.read(place)
            return 0, None if content is None else self._named(target, place, content)
        number = max(numbers)
        known = self._switch_seen.get(target)
        if known is None or known[0] != number:
            place = f"{target}/{_SWITCHES}/{number:08d}"
            known = number, self._named(target, place, self._objects.read(place) or b"")
            self._switch_seen[target] = known
        return known

    def _named(self, target: str, place: str, content: bytes) -> str:
        """The version that a switch names."""
        version = content.decode("ascii", "replace").partition(" ")[0].strip()
        if not _VERSION.fullmatch(version):
            raise StoreError(
                f"{self.location}/{place} names no version: choose one with `trainer models use "
                f"{target} VERSION`"
            )
        return version

    def _switch(self, target: str, version: str, before: int) -> bool:
        """Puts a version in use, unless another switch came after the one that was seen."""
        place = f"{target}/{_SWITCHES}/{before + 1:08d}"
        if not self._objects.create(place, f"{version} {uuid4().hex}\n".encode()):
            return False
        last = max(_numbers(self._objects.names(f"{target}/{_SWITCHES}")))
        if last - before > _KEPT_SWITCHES:
            self._objects.delete([place])
            return False
        return True

    def _require_there(self, target: str, version: str, before: int, previous: str | None) -> None:
        """Goes back to the previous version if the one just put in use is there no more.

        Raises:
            StoreError: it is not there.
        """
        there = self.versions(target)
        if version in there:
            return
        if previous in there:
            self._switch(target, previous, before + 1)  # of another switch it may lose
        current = self.current(target)
        raise StoreError(
            f"{target} {version} was removed while it was put in use, and "
            f"{current if current in there else 'none'} is in use: choose another one with "
            f"`trainer models use {target} VERSION`, or adapt again"
        )

    def _tidy(self, target: str, removed: Iterable[str], seen: set[str]) -> None:
        """Deletes what is left of versions that were removed or abandoned, and old switches.

        What was seen whole before is not abandoned; what is whole again, or in use, is not gone.
        """
        paths = self._objects.below(target)
        claimed, whole = _claimed(paths), set(_whole(paths))
        gone = set(removed)
        gone |= {one for one in claimed - whole - seen if self._is_abandoned(target, one)}
        gone -= whole | {self.current(target)}
        highest = max(claimed, key=int, default="")
        for path in paths:
            _, version, *name = path.split("/")
            if version in gone and name and not (version == highest and name == [_CLAIM]):
                self._objects.delete([path])
        numbers = sorted(_numbers(self._objects.names(f"{target}/{_SWITCHES}")))
        self._objects.delete(
            f"{target}/{_SWITCHES}/{number:08d}" for number in numbers[:-_KEPT_SWITCHES]
        )

    def _is_abandoned(self, target: str, version: str) -> bool:
        claim = self._objects.read(f"{target}/{version}/{_CLAIM}") or b""
        try:
            taken = datetime.fromisoformat(claim.decode("ascii").split()[1])
            return datetime.now(UTC) - taken > _ABANDONED
        except (ValueError, IndexError, TypeError):
            return False

    def _fetch(self, target: str, version: str, manifest: bytes) -> None:
        """Copies a bundle into the mirror, once it is verified."""
        place, folder = f"{self.location}/{target}/{version}", self.root / target / version
        with self._scratch(target) as scratch:
            made = scratch / version
            made.mkdir(mode=0o700)
            try:
                _write_private(made / MANIFEST, manifest)
                for name in load_manifest(made)[0].files:
                    content = self._objects.read(f"{target}/{version}/{name}")
                    if content is None:
                        raise BundleCorruptError(
                            f"the bundle {place} is not complete: {name} is not there; go back "
                            "with `trainer models use`, or adapt again"
                        )
                    _write_private(made / name, content)
                read_verified(made)
            except BundleError as error:
                raise type(error)(str(error).replace(str(made), place)) from error
            for attempt in range(3):
                try:
                    made.rename(folder)
                except OSError:
                    # Another process was faster, or a copy is there that is not whole.
                    if _is_copy(folder, manifest):
                        return
                    if attempt == 2:
                        raise
                    with suppress(FileNotFoundError):
                        folder.rename(scratch / f"old-{attempt}")
                else:
                    return

    @contextmanager
    def _scratch(self, target: str) -> Iterator[Path]:
        """A folder of the mirror, for what is not whole yet."""
        folder = self.root / target
        for made in (self.root.parent, self.root, folder):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as scratch:
            yield Path(scratch)

    @contextmanager
    def _mirroring(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"cannot keep copies of {self.location} in {self.root} "
                f"({error.strerror or error}): name another folder with CROSYSLOG_ENCODER__CACHE"
            ) from error


def _claimed(paths: Iterable[str]) -> set[str]:
    """The versions whose number is taken."""
    parts = (path.split("/") for path in paths)
    return {part[1] for part in parts if len(part) > 2 and _VERSION.fullmatch(part[1])}


def _whole(paths: list[str]) -> list[str]:
    """The versions whose manifest is there, oldest first."""
    return sorted(_claimed(path for path in paths if path.endswith(f"/{MANIFEST}")), key=int)


def _after(paths: list[str]) -> str:
    """The first version whose number is free, and so are all that follow."""
    return f"{max(map(int, _claimed(paths)), default=0) + 1:04d}"


def _numbers(names: Iterable[str]) -> list[int]:
    return [int(name) for name in names if _SWITCH.fullmatch(name)]


def _is_copy(folder: Path, manifest: bytes) -> bool:
    """Whether a folder holds the whole bundle that a manifest describes."""
    try:
        return (folder / MANIFEST).read_bytes() == manifest and bool(read_verified(folder))
    except (OSError, BundleError):
        return False


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
