"""What is wrong with a wheel and a source distribution, by looking into them."""

from __future__ import annotations

import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from crosyslog.store import DETECTORS, base_names
from crosyslog.systems import system_names
from deploy.release.building import ROOT, tracked

if TYPE_CHECKING:
    from pathlib import Path

#: What the wheel installs, and nothing else.
PACKAGES = {"agent", "crosyslog", "trainer"}

#: The largest file of ours is a base of 1.6 MB, the wheel has 13 MB: more is there by mistake.
_FILE_BYTES, _WHEEL_BYTES = 3_000_000, 20_000_000

#: Of a bundle.
_BUNDLE = ("manifest.json", "support.parquet", "weights.safetensors")

#: Nothing that runs code when it is read, or that a run leaves behind.
_FORBIDDEN = {".pickle", ".pkl", ".pt", ".pyc", ".pyo", ".log", ".sqlite"}


def wrong_with_wheel(wheel: Path, root: Path = ROOT) -> list[str]:
    """What is wrong with a wheel, a line each; nothing where it can be published."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        (about,) = {name.split("/")[0] for name in sizes if ".dist-info/" in name}
        metadata = archive.read(f"{about}/METADATA").decode()
        scripts = archive.read(f"{about}/entry_points.txt").decode()
    ours = {name for name in sizes if not name.startswith(f"{about}/")}
    return [
        *(f"{name} is missing" for name in sorted(_needed(root) - ours)),
        *(f"{name} is not of a package" for name in sorted(ours) if _package(name) not in PACKAGES),
        *(f"{name} does not belong here" for name in sorted(ours) if _suffix(name) in _FORBIDDEN),
        *(
            f"{name} has {size:,} bytes, more than {_FILE_BYTES:,}"
            for name, size in sizes.items()
            if size > _FILE_BYTES
        ),
        *_wrong_size(wheel),
        *_wrong_metadata(metadata, scripts, root),
    ]


def wrong_with_sdist(sdist: Path, root: Path = ROOT) -> list[str]:
    """What is wrong with a source distribution: it holds what git tracks, and no more."""
    with tarfile.open(sdist) as archive:
        held = {
            str(PurePosixPath(*PurePosixPath(entry.name).parts[1:]))
            for entry in archive
            if entry.isfile()
        }
    files = set(tracked(root)) | {"PKG-INFO"}
    return [
        *(f"{name} is missing in {sdist.name}" for name in sorted(files - held)),
        *(f"{name} in {sdist.name} is not git's" for name in sorted(held - files)),
    ]


def differences(one: Path, other: Path) -> list[str]:
    """In which files two wheels differ, by their content."""
    contents = []
    for wheel in (one, other):
        with zipfile.ZipFile(wheel) as archive:
            contents.append({entry.filename: entry.CRC for entry in archive.infolist()})
    names = sorted(contents[0].keys() | contents[1].keys())
    return [
        f"{name} is another one, or none, in the wheel that the sdist builds"
        for name in names
        if contents[0].get(name) != contents[1].get(name)
    ]


def _needed(root: Path) -> set[str]:
    """Every file of the packages; named for themselves, what programs look for when they run."""
    bases = {
        f"crosyslog/bases/{base}/{detector}/{part}"
        for base in base_names()
        for detector in DETECTORS
        for part in _BUNDLE
    }
    profiles = {f"crosyslog/systems/{name}.toml" for name in system_names()}
    typed = {f"{package}/py.typed" for package in PACKAGES}
    return bases | profiles | typed | {one for one in tracked(root) if _package(one) in PACKAGES}


def _wrong_size(wheel: Path) -> list[str]:
    size = wheel.stat().st_size
    return [f"{wheel.name} has {size:,} bytes"] if size > _WHEEL_BYTES else []


def _wrong_metadata(metadata: str, scripts: str, root: Path) -> list[str]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = HeaderParser().parsestr(metadata)
    wanted = {
        "Name": project["name"],
        "Version": project["version"],
        "License-Expression": project["license"],
        "Summary": project["description"],
    }
    wrong = [
        f"its metadata say {name}: {told[name]}, and pyproject.toml {value}"
        for name, value in wanted.items()
        if told[name] != value
    ]
    if set((told["Requires-Python"] or "").split(",")) != set(
        project["requires-python"].split(",")
    ):
        wrong.append(f"its metadata say Requires-Python: {told['Requires-Python']}")
    if "# CroSysLog" not in str(told.get_payload()):
        wrong.append("its metadata do not hold the README")
    wrong += [
        f"it has no command {name}"
        for name, place in project["scripts"].items()
        if f"{name} = {place}" not in scripts
    ]
    return wrong


def _package(name: str) -> str:
    return name.split("/", maxsplit=1)[0]


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix
