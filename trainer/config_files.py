"""Settings of a training in a TOML file."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from pathlib import Path

#: numpy takes a larger one, torch does not.
LARGEST_SEED = 2**63 - 1

Config = TypeVar("Config", bound=BaseModel)


def read_config(path: Path | None, form: type[Config]) -> Config:
    """Reads the settings of a training from a TOML file.

    Args:
        path: the file; without one, all settings are the default ones.
        form: of which detector.

    Raises:
        SettingError: the file cannot be read, or a setting is unknown or impossible.
    """
    if path is None:
        return form()
    try:
        return form.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingError(f"cannot read the settings {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"the settings {path} are not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # no setting alone, but some together
            raise SettingError(f"the settings {path}: {said}") from error
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            said = f"there is no {name}, but {', '.join(sorted(form.model_fields))}"
            raise SettingError(f"the settings {path}: {said}") from error
        raise SettingError(f"the settings {path}: {name}={first['input']!r}: {said}") from error
