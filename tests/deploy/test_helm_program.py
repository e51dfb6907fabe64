"""What is said where helm cannot be built; a script stands in for Go."""

import os
from pathlib import Path

import pytest

from crosyslog.errors import InputError, ToolMissingError
from deploy.helm import program
from deploy.helm.program import HELM_VERSION, helm


def go(folder: Path, monkeypatch: pytest.MonkeyPatch, install: str, version: str = "1.26") -> None:
    """Puts a Go of that version on the path, whose `install` is this line."""
    script = folder / "bin" / "go"
    script.parent.mkdir()
    said = f"go version go{version}.3 linux/amd64"
    script.write_text(f"""#!/bin/sh
if [ "$1" = version ]; then echo "{said}"; exit; fi
{install}
""")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")


def test_what_go_builds_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go(tmp_path, monkeypatch, 'echo built > "$GOBIN/helm"')
    built = helm(tmp_path / "tools")
    assert built.read_text() == "built\n"
    assert list(built.parent.iterdir()) == [built]
    monkeypatch.setenv("PATH", "")
    assert helm(tmp_path / "tools") == built


def test_a_go_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go(tmp_path, monkeypatch, "echo 'invalid go version' >&2; exit 1", version="1.19")
    with pytest.raises(ToolMissingError, match=r"with Go 1\.19: install Go 1\.26 or later$"):
        helm(tmp_path / "tools")


def test_what_a_go_that_is_new_enough_says_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go(tmp_path, monkeypatch, "echo 'no route' >&2; exit 1")
    with pytest.raises(InputError, match=r"could not be built: no route$"):
        helm(tmp_path / "tools")


def test_without_go_it_is_said_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match=r"install Go 1\.26 or later$"):
        helm(tmp_path / "tools")


def test_a_build_that_takes_too_long_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go(tmp_path, monkeypatch, "exec sleep 30")
    monkeypatch.setattr(program, "_BUILD_SECONDS", 0.2)
    with pytest.raises(InputError, match=r"was not built within 0\.2 s"):
        helm(tmp_path / "tools")
    assert list((tmp_path / "tools").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(tmp_path, monkeypatch, "exit 0")
    taken = tmp_path / "tools"
    taken.write_text("")
    monkeypatch.setattr(helm, "__defaults__", (taken,))
    assert program.main() == 2
    said = capsys.readouterr().err
    assert said == f"error: helm {HELM_VERSION} cannot be put into {taken}: File exists\n"
