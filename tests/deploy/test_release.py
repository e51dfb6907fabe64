"""What would be released holds what it should; `python -m deploy.release` also installs it."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from crosyslog.errors import InputError, ToolMissingError
from deploy.release.__main__ import main
from deploy.release.building import build, tracked
from deploy.release.contents import PACKAGES, differences, wrong_with_sdist, wrong_with_wheel
from tests.conftest import absent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy.release.building import Built


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    try:
        return build(tmp_path_factory.mktemp("dist"))
    except (ToolMissingError, InputError) as error:
        absent("a checkout of git", str(error))


def with_another(
    wheel: Path, to: Path, without: str = "", added: Mapping[str, bytes] | None = None
) -> Path:
    """A copy of a wheel without one file, or with others."""
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(to, "w") as new:
        for entry in old.infolist():
            if entry.filename != without:
                new.writestr(entry, old.read(entry))
        for name, content in (added or {}).items():
            new.writestr(name, content)
    return to


def test_what_is_built_holds_what_it_should(built: Built) -> None:
    assert wrong_with_wheel(built.wheel) == []
    assert wrong_with_sdist(built.sdist) == []
    assert differences(built.wheel, built.again) == []


def test_tests_and_deployment_are_in_the_sdist_alone(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        held = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in held if not name.endswith(".dist-info")} == PACKAGES
    assert {name.split("/")[0] for name in tracked()} > {"tests", "deploy", "benchmarks"}


@pytest.mark.parametrize(
    "missing",
    [
        "crosyslog/bases/base/evidence/weights.safetensors",
        "crosyslog/systems/syslog.toml",
        "trainer/py.typed",
        "trainer/page.html.jinja",
        "agent/app.py",
    ],
)
def test_a_wheel_that_lacks_a_file_is_found(built: Built, tmp_path: Path, missing: str) -> None:
    wheel = with_another(built.wheel, tmp_path / built.wheel.name, missing)
    assert wrong_with_wheel(wheel) == [f"{missing} is missing"]
    assert differences(wheel, built.wheel)[0].startswith(missing)


def test_what_does_not_belong_in_a_wheel_is_found(built: Built, tmp_path: Path) -> None:
    added = {
        "tests/test_x": b"",
        "trainer/model.pkl": b"",
        "crosyslog/large.bin": bytes(3_000_001),
    }
    wheel = with_another(built.wheel, tmp_path / built.wheel.name, added=added)
    assert wrong_with_wheel(wheel) == [
        "tests/test_x is not of a package",
        "trainer/model.pkl does not belong here",
        "crosyslog/large.bin has 3,000,001 bytes, more than 3,000,000",
    ]


def test_metadata_that_are_not_the_projects_are_found(built: Built, tmp_path: Path) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (one for one in wheel.namelist() if one.endswith("/METADATA"))
        metadata = wheel.read(name).decode().replace("\nVersion: ", "\nVersion: 9.")
    changed = {name: metadata.encode()}
    other = with_another(built.wheel, tmp_path / built.wheel.name, name, changed)
    (line,) = wrong_with_wheel(other)
    assert line.startswith("its metadata say Version: 9.")


@pytest.mark.usefixtures("built")
def test_the_program_builds_and_looks_inside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path / "dist"), "--contents-only"]) == 0
    assert "hold what they should" in capsys.readouterr().out
    assert sorted(path.suffix for path in (tmp_path / "dist").iterdir()) == [".gz", ".whl"]
