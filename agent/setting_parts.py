"""The agent's settings part by part: each with its type, its default and what is allowed."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from crosyslog.errors import SettingError, StoreError
from crosyslog.locations import user_cache, user_store
from crosyslog.store import DEFAULT_BASE
from crosyslog.store_urls import checked_url, is_url

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h)?")
_TOPIC = r"^[a-zA-Z0-9._-]{1,249}$"
_SERVERS = r"^[^\s,:]+(:\d{1,5})?(,[^\s,:]+(:\d{1,5})?)*$|^\[[0-9a-fA-F:]+\]:\d{1,5}$"


def _seconds(value: object) -> object:
    """`100ms`, `2s`, `1m` or a number of seconds, as seconds."""
    if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        return float(found[1]) * _UNITS[found[2] or "s"]
    return value


def _start(value: object) -> object:
    # Without this, pydantic would read a bare number as seconds since 1970.
    if isinstance(value, datetime | str) and (
        isinstance(value, datetime)
        or value in {"earliest", "latest"}
        or re.match(r"\d{4}-\d\d-\d\d[Tt ]", value)
    ):
        return value
    raise ValueError("this is no point to start from")


def _store(value: object) -> object:
    """A folder as a path, or a URL as it is."""
    if not isinstance(value, str):
        return value
    if not is_url(value):
        return Path(value)
    try:
        return checked_url(value)
    except StoreError as error:
        # As an error of pydantic's, it would be shown with the value, which may hold a secret.
        raise SettingError(f"model.store: {error}") from error


Seconds = Annotated[float, BeforeValidator(_seconds)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Part):
    """Where lines come from and events go to."""

    bootstrap_servers: Annotated[
        str,
        Field(pattern=_SERVERS, description="brokers to ask first: HOST:PORT, several with commas"),
    ] = "localhost:9092"
    topic: Annotated[
        str | None,
        Field(pattern=_TOPIC, description="the topic to read: letters, digits, dots, _ and -"),
    ] = None
    group_id: Annotated[
        str | None,
        Field(min_length=1, description="the consumer group; crosyslog-TOPIC if not set"),
    ] = None
    start_from: Annotated[
        Literal["earliest", "latest"] | AwareDatetime,
        BeforeValidator(_start),
        Field(
            description="where a new group starts: earliest, latest, or a time such as "
            "2026-01-31T12:00:00Z"
        ),
    ] = "latest"
    output_topic: Annotated[
        str | None,
        Field(
            pattern=_TOPIC,
            description="the topic of the events, another than the one read; TOPIC.anomalies if "
            "not set",
        ),
    ] = None
    dead_letter_topic: Annotated[
        str | None,
        Field(
            pattern=_TOPIC,
            description="the topic of lines that cannot be judged; TOPIC.dlq if not set",
        ),
    ] = None
    group_instance_id: Annotated[
        str | None,
        Field(
            pattern=_TOPIC,
            description="a name of this agent alone: one that restarts within the session timeout "
            "keeps its partitions",
        ),
    ] = None
    session_timeout: Annotated[
        Seconds,
        Field(
            ge=1,
            le=1800,
            description="after this long without a sign of life, the group gives an agent's "
            "partitions to others: 1s to 30m, within the broker's limits",
        ),
    ] = 10.0
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Field(description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"],
        Field(description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"),
    ] = "PLAIN"
    sasl_username: Annotated[str | None, Field(description="the user's name, with SASL")] = None
    sasl_password: Annotated[SecretStr | None, Field(description="the password, with SASL")] = None
    sasl_token_command: Annotated[
        str | None,
        Field(
            min_length=1,
            description="a program that prints a token, with OAUTHBEARER; asked for each "
            "connection, at most once in 30 s",
        ),
    ] = None
    ssl_ca_file: Annotated[
        Path | None, Field(description="certificates to trust, PEM; the system's if not set")
    ] = None
    ssl_certificate_file: Annotated[
        Path | None, Field(description="the agent's own certificate, PEM")
    ] = None
    ssl_key_file: Annotated[
        Path | None, Field(description="the key of that certificate, PEM, without a passphrase")
    ] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.topic is not None and self.topic == self.resolved_output_topic:
            raise ValueError(
                f"kafka.output_topic={self.output_topic!r} is the topic that is read: the agent "
                "would judge its own events; name another"
            )
        if self.topic is not None and self.resolved_dead_letter_topic in {
            self.topic,
            self.resolved_output_topic,
        }:
            raise ValueError(
                f"kafka.dead_letter_topic={self.dead_letter_topic!r} is the topic that is read, or "
                "that of the events; name another"
            )
        sasl = self.security_protocol.startswith("SASL")
        token = self.sasl_mechanism == "OAUTHBEARER"
        for name, wanted in (
            ("sasl_username", sasl and not token),
            ("sasl_password", sasl and not token),
            ("sasl_token_command", sasl and token),
        ):
            if (getattr(self, name) is not None) != wanted:
                state = "is not set" if wanted else "is set"
                mechanism = f", kafka.sasl_mechanism={self.sasl_mechanism}" if sasl else ""
                remedy = "leave it out" if sasl else "use SASL_SSL or SASL_PLAINTEXT with it"
                raise ValueError(
                    f"kafka.{name} {state} and kafka.security_protocol={self.security_protocol}"
                    f"{mechanism}: {'set it' if wanted else remedy}"
                )
        tls = self.security_protocol.endswith("SSL")
        for name in ("ssl_ca_file", "ssl_certificate_file", "ssl_key_file"):
            if getattr(self, name) is not None and not tls:
                raise ValueError(
                    f"kafka.{name} is set and kafka.security_protocol={self.security_protocol}: "
                    "use SSL or SASL_SSL with it"
                )
        if self.ssl_key_file is not None and self.ssl_certificate_file is None:
            raise ValueError("kafka.ssl_key_file needs kafka.ssl_certificate_file")
        return self

    @property
    def resolved_topic(self) -> str:
        """The topic to read.

        Raises:
            SettingError: none is set.
        """
        if self.topic is None:
            raise SettingError("kafka.topic is not set: name the topic to read with --topic NAME")
        return self.topic

    @property
    def resolved_group(self) -> str:
        """The consumer group, set or by default."""
        return self.group_id or f"crosyslog-{self.resolved_topic}"

    @property
    def resolved_output_topic(self) -> str:
        """The topic of the events, set or by default."""
        return self.output_topic or f"{self.resolved_topic}.anomalies"

    @property
    def resolved_dead_letter_topic(self) -> str:
        """The topic of the dead letters, set or by default."""
        return self.dead_letter_topic or f"{self.resolved_topic}.dlq"


class DeliverySettings(_Part):
    """How surely what was found is delivered."""

    guarantee: Annotated[
        Literal["exactly-once", "at-least-once"],
        Field(
            description="exactly-once, for readers of committed messages, or at-least-once: an "
            "event that comes twice has the same id"
        ),
    ] = "exactly-once"
    commit_interval: Annotated[
        Seconds,
        Field(
            ge=0.1,
            le=60,
            description="how often the offset of a partition is committed whose lines came to "
            "nothing: 100ms to 60s",
        ),
    ] = 1.0


class BatchSettings(_Part):
    """When lines are many enough, or old enough, to be scored."""

    max_lines: Annotated[
        int, Field(ge=1, le=1_000_000, description="lines that close a batch: 1 to 1000000")
    ] = 20_000
    linger: Annotated[
        Seconds,
        Field(
            ge=0,
            le=60,
            description="how long a batch waits for more lines, half as long where none is at "
            "work: 0 to 60s",
        ),
    ] = 0.1
    max_line_bytes: Annotated[
        int,
        Field(
            ge=1,
            le=100_000_000,
            description="a longer line is not judged but a dead letter: 1 to 100000000",
        ),
    ] = 1_048_576


class EncoderSettings(_Part):
    """What turns templates into vectors."""

    name: Annotated[
        str | None,
        Field(
            min_length=1,
            description="minilm, a Hugging Face name, or a saved BERT's folder; the one that the "
            "model was made with if not set",
        ),
    ] = None
    device: Annotated[str, Field(description="auto, cpu, cuda or cuda:N")] = "auto"
    precision: Annotated[
        Literal["fp32", "bf16", "int8"] | None,
        Field(
            description="fp32, bf16 or int8; the one that the model was made with if not set, "
            "since it works with no other"
        ),
    ] = None
    cache: Annotated[Path, Field(description="the folder of encoded templates")] = Field(
        default_factory=user_cache
    )
    cache_entries: Annotated[
        int, Field(ge=1, description="encoded templates kept in memory: at least 1")
    ] = 200_000


class ModelSettings(_Part):
    """Which model judges."""

    target: Annotated[
        str | None,
        Field(
            min_length=1,
            description="the system whose model is used; by default the topic's name without "
            "-logs, _logs or .logs",
        ),
    ] = None
    base: Annotated[
        str, Field(description="the base if the system has no model: a name, or a folder")
    ] = DEFAULT_BASE
    store: Annotated[
        Path | str,
        BeforeValidator(_store),
        Field(
            description="the folder of models, or the URL of one that agents share: "
            "s3://bucket/path, gs://bucket/path or file:///path"
        ),
    ] = Field(default_factory=user_store)
    reload_interval: Annotated[
        Seconds,
        Field(
            ge=0,
            le=3600,
            description="how often the store is looked at for another version: 0 for never, to 1h",
        ),
    ] = 5.0
    threshold: Annotated[
        float | None,
        Field(ge=0, le=1, description="the score from which on a line is an anomaly, 0 to 1; the "
              "model's own if not set"),
    ] = None  # fmt: skip


class HttpSettings(_Part):
    """Where metrics and health are served."""

    host: Annotated[str, Field(description="the address to listen on; 0.0.0.0 for all")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Field(ge=0, le=65_535, description="0 to 65535; 0 takes a free one")] = (
        9464
    )


class LogSettings(_Part):
    """How the agent tells what it does."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="debug, info, warning or error"),
    ] = "info"
    format: Annotated[Literal["text", "json"], Field(description="text or json")] = "text"
