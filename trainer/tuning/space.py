"""What is searched: the settings that vary, how far, and which of them each trial takes."""

from __future__ import annotations

import math
import tomllib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from crosyslog.errors import SettingError
from trainer.training import TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Draws in a row that repeat earlier settings before the space counts as exhausted.
_PATIENCE = 1000


class Range(BaseModel):
    """Every value between two.

    Attributes:
        low: the least value.
        high: the greatest one.
        log: draw evenly on a logarithmic scale.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    low: float
    high: float
    log: bool = False


#: By the name of a setting, its choices or its range.
Space = dict[str, tuple[Any, ...] | Range]

_ENTRY: TypeAdapter[Range | tuple[Any, ...]] = TypeAdapter(Range | tuple[Any, ...])


def default_space() -> Space:
    """The space that is searched unless another is given."""
    text = (files("trainer.tuning") / "space.toml").read_text("utf-8")
    return _checked(tomllib.loads(text), "the default space")


def read_space(path: Path) -> Space:
    """Reads a space from a TOML file: a setting's name = [choices] or { low, high, log }.

    Raises:
        SettingError: the file cannot be read, or a name or a range is impossible.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"cannot read the space {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"the space {path} is not TOML: {error}") from error
    return _checked(content, f"the space {path}")


def searched(space: Space | None, fixed: TrainingConfig) -> Space:
    """The space without the settings that are fixed.

    Args:
        space: the given one; none for the default.
        fixed: settings, of which those that were set stay as they are.

    Raises:
        SettingError: a setting is in the given space and fixed, or nothing is left to vary.
    """
    held = fixed.model_fields_set
    if space is not None and (both := sorted(set(space) & held)):
        raise SettingError(f"{both[0]} is in --space and in --config: leave it out of one of them")
    left = {
        name: entry
        for name, entry in (default_space() if space is None else space).items()
        if name not in held
    }
    if not left:
        raise SettingError("no setting is left to vary: --config fixes all that the space names")
    return left


def draw_settings(
    space: Space, fixed: TrainingConfig, *, trials: int, seed: int
) -> list[TrainingConfig]:
    """The settings of each trial: those of `fixed` first, then draws that differ from all before.

    The same arguments give the same settings, and more trials go on where fewer end.

    Raises:
        SettingError: the space has not so many settings, or a value in it is impossible.
    """
    rng = np.random.default_rng(seed)
    drawn = [TrainingConfig.model_validate(fixed.model_dump())]
    in_vain = 0
    while len(drawn) < trials:
        # In the order of the settings: that of the file is no part of the seed.
        values = {
            name: _draw(name, space[name], rng)
            for name in TrainingConfig.model_fields
            if name in space
        }
        try:
            settings = TrainingConfig.model_validate({**fixed.model_dump(), **values})
        except ValidationError as error:
            raise SettingError(f"the space: {_first(error)}: write choices instead") from error
        if settings not in drawn:
            drawn.append(settings)
            in_vain = 0
        elif (in_vain := in_vain + 1) == _PATIENCE:
            raise SettingError(
                f"--trials {trials}: no more than {len(drawn)} different settings are found in "
                "the space"
            )
    return drawn


def _draw(name: str, entry: tuple[Any, ...] | Range, rng: np.random.Generator) -> Any:  # noqa: ANN401 - whatever a setting is
    if not isinstance(entry, Range):
        return entry[int(rng.integers(len(entry)))]
    low, high = entry.low, entry.high
    if _is_whole(name):
        if not entry.log:
            return int(rng.integers(int(low), int(high) + 1))
        return min(int(math.exp(rng.uniform(math.log(low), math.log(high + 1)))), int(high))
    value = (
        math.exp(rng.uniform(math.log(low), math.log(high)))
        if entry.log
        else float(rng.uniform(low, high))
    )
    # Three digits say all that a search knows, and are read with ease.
    return min(max(float(f"{value:.3g}"), low), high)


def _checked(content: Mapping[str, Any], what: str) -> Space:
    if not content:
        raise SettingError(f"{what} names no setting")
    space: Space = {}
    for name, given in content.items():
        if name not in TrainingConfig.model_fields:
            known = ", ".join(sorted(set(TrainingConfig.model_fields) - {"seed"}))
            raise SettingError(f"{what}: {name} is no setting (there are {known})")
        if name == "seed":
            raise SettingError(f"{what}: the seed is chance and not searched: fix it by --config")
        try:
            entry = _ENTRY.validate_python(given)
        except ValidationError as error:
            raise SettingError(
                f"{what}: {name} = {given!r}: write [choices] or {{ low, high, log }}"
            ) from error
        problem = _problem_of_range(name, entry) if isinstance(entry, Range) else None
        if entry == ():
            problem = "there is no choice in it"
        if problem:
            raise SettingError(f"{what}: {name}: {problem}")
        values = (given["low"], given["high"]) if isinstance(entry, Range) else entry
        for value in values:
            whole = int(value) if isinstance(entry, Range) and _is_whole(name) else value
            try:
                TrainingConfig.model_validate({name: whole}, strict=True)
            except ValidationError as error:
                raise SettingError(f"{what}: {_first(error)}") from error
        space[name] = entry
    return space


def _problem_of_range(name: str, entry: Range) -> str | None:
    if TrainingConfig.model_fields[name].annotation not in {int, float}:
        return "a range needs a number: write choices"
    if not (math.isfinite(entry.low) and math.isfinite(entry.high)):
        return "a range has two finite ends"
    if entry.low >= entry.high:
        return f"low = {entry.low:g} is not below high = {entry.high:g}"
    if entry.log and entry.low <= 0:
        return f"log needs low above 0, and it is {entry.low:g}"
    if _is_whole(name) and not (entry.low.is_integer() and entry.high.is_integer()):
        return "it is a whole number, and so are the ends of its range"
    return None


def _is_whole(name: str) -> bool:
    return TrainingConfig.model_fields[name].annotation is int


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return f"{name}={first['input']!r}: {first['msg']}"
