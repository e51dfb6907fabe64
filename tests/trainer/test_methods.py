"""Methods of a user's own, by an entry point of a package that is installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from crosyslog.errors import SettingError
from trainer.baselines import BASELINES, Known
from trainer.evaluation import check_methods, rules

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
import numpy as np
from trainer.baselines import Judgement

def everything(known, query):
    return Judgement(np.ones(len(query)), np.ones(len(query), dtype=bool))

def short(known, query):
    return Judgement(np.ones(1), np.ones(1, dtype=bool))

def empty(known, query):
    return Judgement(np.full(len(query), np.nan), np.ones(len(query), dtype=bool))

def broken(known, query):
    raise ValueError("no idea")
"""

KNOWN = Known(
    ["a"], np.ones((1, 2), dtype=np.float32), np.zeros(3, np.int64), np.zeros(3, np.bool_)
)
QUERY = np.zeros(5, dtype=np.int64)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    """As pip leaves a package behind."""
    (folder / "own_methods.py").write_text(MODULE, encoding="utf-8")
    info = folder / "own_methods-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: own-methods\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[crosyslog.methods]\n{entry}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "own_methods", raising=False)


def test_a_package_adds_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "everything = own_methods:everything")
    found = rules()
    assert list(found) == [*BASELINES, "everything"]
    assert check_methods(["everything"], found) == ["everything"]
    assert found["everything"](KNOWN, QUERY).flagged.tolist() == [True] * 5


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("memory = own_methods:everything", "'memory' of own-methods has the name of another one"),
        ("crosyslog = own_methods:everything", "has the name of another one"),
        ("mine = own_methods:missing", "cannot be loaded (own_methods:missing): AttributeError"),
        ("mine = no_such_module:rule", "ModuleNotFoundError"),
    ],
)
def test_a_method_that_cannot_be_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, said: str
) -> None:
    install(tmp_path, monkeypatch, entry)
    with pytest.raises(SettingError) as refused:
        rules()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("short", "must give a score and a decision for each of 5 lines"),
        ("empty", "not finite"),
        ("broken", "--method mine failed: ValueError: no idea"),
    ],
)
def test_an_answer_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, said: str
) -> None:
    install(tmp_path, monkeypatch, f"mine = own_methods:{rule}")
    with pytest.raises(SettingError, match=said):
        rules()["mine"](KNOWN, QUERY)
