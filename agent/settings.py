"""The agent's settings: defaults < TOML file < environment < command line.

Each has one name, `part.name`, and the environment variable `CROSYSLOG_PART__NAME`. A secret may
be in a file instead, named by `CROSYSLOG_PART__NAME_FILE`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from agent.setting_parts import (
    BatchSettings,
    DeliverySettings,
    EncoderSettings,
    HttpSettings,
    KafkaSettings,
    LogSettings,
    ModelSettings,
)
from crosyslog.errors import SettingError
from crosyslog.store import target_of_topic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic.fields import FieldInfo

PREFIX = "CROSYSLOG_"

#: What the TOML file holds travels to the sources under this name; no part is called so.
_FILE = "_file"


class Settings(BaseSettings):
    """All settings of the agent."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    kafka: KafkaSettings = KafkaSettings()
    batch: BatchSettings = BatchSettings()
    delivery: DeliverySettings = DeliverySettings()
    encoder: EncoderSettings = Field(default_factory=EncoderSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()

    @property
    def target(self) -> str:
        """The system whose model is used, set or by the topic's name."""
        return self.model.target or target_of_topic(self.kafka.resolved_topic)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced by one that knows _FILE
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - there is one way per layer
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The layers, the strongest first."""
        given = init_settings()
        file = given.pop(_FILE, {})
        return (
            InitSettingsSource(settings_cls, init_kwargs=given),
            _Environment(settings_cls),
            InitSettingsSource(settings_cls, init_kwargs=file),
        )


class _Environment(EnvSettingsSource):
    """Environment variables; for a secret, `…_FILE` names the file that holds it."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        named: dict[str, str | None] = {}
        for name, value in os.environ.items():
            if not name.upper().startswith(PREFIX) or "__" not in name:
                continue
            setting = name[len(PREFIX) :].lower().replace("__", ".", 1)
            secret = setting.removesuffix("_file")
            if secret != setting and _is_secret(secret):
                named[name.lower().removesuffix("_file")] = _read_secret(name, value)
                continue
            if setting not in dict(_fields()):
                raise SettingError(f"the environment variable {name}: {_unknown(setting)}")
            named[name.lower()] = value
        return named


class Described(BaseModel):
    """A setting as `crosyslog-agent settings` shows it; a secret's value is never shown."""

    name: str
    value: str | None
    default: str | None
    environment: str
    description: str


def load_settings(
    config: Path | None = None,
    assignments: Iterable[str] = (),
    flags: Mapping[str, str | None] | None = None,
) -> Settings:
    """The settings of all layers.

    Args:
        config: a TOML file.
        assignments: `part.name=value`, as given with `--set`; the last of a name counts.
        flags: values of settings that have an option of their own, by `part.name`.

    Raises:
        SettingError: a setting is unknown or impossible.
    """
    layer: dict[str, Any] = {}
    for setting, value in [*map(_assignment, assignments), *(flags or {}).items()]:
        if value is not None:
            part, name = setting.split(".", 1)
            layer.setdefault(part, {})[name] = value
    if config is not None:
        layer[_FILE] = _read_toml(config)
    try:
        return Settings(**layer)
    except ValidationError as error:
        raise SettingError(_explain(error)) from error


def describe_settings(settings: Settings) -> list[Described]:
    """Every setting with its value, default, environment variable and meaning."""
    described = []
    for setting, field in _fields():
        part, name = setting.split(".")
        value = getattr(getattr(settings, part), name)
        described.append(
            Described(
                name=setting,
                value=_shown(value),
                default=_shown(field.get_default(call_default_factory=True, validated_data={})),
                environment=f"{PREFIX}{part}__{name}".upper(),
                description=field.description or "",
            )
        )
    return described


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    for part, outer in Settings.model_fields.items():
        kind = outer.annotation
        assert kind is not None  # noqa: S101 - every part is annotated with its class
        for name, field in kind.model_fields.items():
            yield f"{part}.{name}", field


def _is_secret(setting: str) -> bool:
    return any(
        name == setting and "SecretStr" in str(field.annotation) for name, field in _fields()
    )


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingError(f"cannot read {path}, which {variable} names: {reason}") from error


def _assignment(text: str) -> tuple[str, str]:
    setting, equals, value = text.partition("=")
    if not equals:
        raise SettingError(f"--set {text}: write it as --set part.name=value")
    if setting not in dict(_fields()):
        raise SettingError(f"--set {setting}: {_unknown(setting)}")
    if _is_secret(setting):
        variable = f"{PREFIX}{setting.replace('.', '__')}".upper()
        raise SettingError(
            f"--set {setting}: a secret on a command line can be read by everyone on the machine; "
            f"set {variable}, or {variable}_FILE to the file that holds it"
        )
    return setting, value


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingError(f"cannot read the settings in {path}: {reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"the settings in {path} are not TOML: {error}") from error


def _unknown(setting: str) -> str:
    known = [name for name, _ in _fields()]
    close = difflib.get_close_matches(setting, known, n=1, cutoff=0.6)
    advice = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    return f"{setting} is no setting; {advice}"


def _explain(error: ValidationError) -> str:
    """The first thing that is wrong, in one line: the setting, its value, what is allowed."""
    first = error.errors()[0]
    setting = ".".join(str(part) for part in first["loc"][:2])
    if first["type"] == "extra_forbidden":
        return _unknown(setting)
    reason = first["msg"].removeprefix("Value error, ")
    field = dict(_fields()).get(setting)
    if field is None:
        # A check of settings against each other, which names them itself.
        return reason if "." not in setting and "kafka." in reason else f"{setting}: {reason}"
    given = str(first["input"])
    # An address with a user and a password in it is no address of brokers: it is not repeated.
    value = "" if _is_secret(setting) or "@" in given else f"={given!r}"
    return f"{setting}{value} is impossible; allowed: {field.description}"


def _shown(value: object) -> str | None:
    if isinstance(value, SecretStr):
        return "(set)"
    if isinstance(value, datetime):
        return value.isoformat()
    return None if value is None else str(value)
