"""Listeners with TLS and SASL: agents that get in, and what `check` says of those that do not."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from agent.checking import check
from deploy.kafka_security import Secured
from deploy.local_kafka import LocalKafka, create_topics
from tests.fakes import FakeEncoder
from tests.kafka.agents import (
    agent_settings,
    load_fake,
    produce,
    published,
    running,
    scored,
    some_lines,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.checking import Finding
    from agent.settings import Settings

#: Alice may do what an agent must, bob is known and may do nothing.
PASSWORDS = {"alice": "a-secret-of-alice", "bob": "a-secret-of-bob"}


@pytest.fixture(scope="module")
def secured(java_and_maven: None) -> Iterator[LocalKafka]:  # noqa: ARG001 - it skips or fails
    with LocalKafka(secured=Secured(PASSWORDS)) as broker:
        yield broker


def grant(broker: LocalKafka, user: str, kind: ResourceType, name: str, *operations: str) -> None:
    """Gives rights to everything whose name begins so."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    bindings = [
        AclBinding(
            kind,
            name,
            ResourcePatternType.PREFIXED,
            f"User:{user}",
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for operation in operations
    ]
    for done in admin.create_acls(bindings).values():
        done.result(30)


def allow(broker: LocalKafka, user: str, topic: str) -> None:
    """Gives the rights that the documentation names."""
    grant(broker, user, ResourceType.TOPIC, topic, "READ", "WRITE", "DESCRIBE", "CREATE")
    grant(broker, user, ResourceType.GROUP, f"crosyslog-{topic}", "READ")
    transactions = ResourceType.TRANSACTIONAL_ID
    grant(broker, user, transactions, f"crosyslog-{topic}", "WRITE", "DESCRIBE")


def secrets(topic: str, tmp_path: Path, broker: LocalKafka, way: str, user: str) -> Settings:
    """Settings of an agent that comes in one of the ways there are."""
    protocol, _, mechanism = way.partition(" ")
    chosen: dict[str, object] = {
        "kafka__bootstrap_servers": broker.listener(protocol),
        "kafka__security_protocol": protocol,
    }
    if protocol.endswith("SSL"):
        chosen["kafka__ssl_ca_file"] = broker.folder / "ca.pem"
    if protocol == "SSL":
        chosen["kafka__ssl_certificate_file"] = broker.folder / f"{user}.pem"
        chosen["kafka__ssl_key_file"] = broker.folder / f"{user}.key"
    if mechanism == "OAUTHBEARER":
        chosen["kafka__sasl_token_command"] = f"{sys.executable} {token_of(user, tmp_path)}"
    elif mechanism:
        chosen |= {"kafka__sasl_username": user, "kafka__sasl_password": PASSWORDS.get(user, "x")}
    if mechanism:
        chosen["kafka__sasl_mechanism"] = mechanism
    return agent_settings("unused:1", topic, tmp_path, **chosen)


def token_of(user: str, folder: Path) -> Path:
    """A program that prints a token that the broker believes."""

    def part(content: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    claims: dict[str, object] = {"sub": user, "iat": 1_700_000_000, "exp": 4_000_000_000}
    path = folder / "token.py"
    path.write_text(f"print('{part({'alg': 'none'})}.{part(claims)}.')\n", encoding="utf-8")
    return path


WAYS = [
    "SASL_PLAINTEXT PLAIN",
    "SASL_PLAINTEXT SCRAM-SHA-256",
    "SASL_SSL SCRAM-SHA-512",
    "SASL_PLAINTEXT OAUTHBEARER",
    "SSL",
]


@pytest.mark.parametrize("way", WAYS)
async def test_an_agent_works_behind_every_kind_of_door(
    secured: LocalKafka, topic: str, tmp_path: Path, way: str
) -> None:
    user = "agent" if way == "SSL" else "alice"
    plain = secured.bootstrap_servers
    await create_topics(plain, {topic: 2})
    allow(secured, user, topic)
    await produce(plain, topic, some_lines(20))
    settings = secrets(topic, tmp_path, secured, way, user)
    findings = await check(settings, load_fake)
    assert [(finding.what, finding.ok) for finding in findings] == [
        (what, True) for what in ("settings", "broker", "topics", "read", "write", "model")
    ], findings
    assert f"{topic}.dlq will be created" in findings[2].said
    settings = settings.model_copy(
        update={"model": settings.model.model_copy(update={"threshold": 0.0})}
    )
    async with running(settings) as app:
        await until(lambda: scored(app) == 20)
    assert len(await published(plain, f"{topic}.anomalies")) == 20
    again = await check(settings, load_fake)
    assert f"{topic}.dlq 2 partitions" in again[2].said
    assert "20 offsets, 0 of them before the group" in again[3].said


def failed(findings: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.said for finding in findings if finding.ok is False}


async def test_a_wrong_password_is_said_to_be_one(
    secured: LocalKafka, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PASSWORDS, "alice", "hush-hush-wrong")
    settings = secrets(topic, tmp_path, secured, "SASL_PLAINTEXT SCRAM-SHA-256", "alice")
    findings = await check(settings, load_fake)
    assert set(failed(findings)) == {"broker"}
    assert "refuses us" in failed(findings)["broker"]
    assert "the password or token" in failed(findings)["broker"]
    assert "hush-hush-wrong" not in str(findings)
    # What could not be looked at is not called well.
    assert {finding.what for finding in findings if finding.ok is None} == {
        "topics",
        "read",
        "write",
    }


async def test_another_protocol_than_the_port_s_is_named(
    secured: LocalKafka, topic: str, tmp_path: Path
) -> None:
    plain = agent_settings(secured.listener("SSL"), topic, tmp_path)
    assert "kafka.security_protocol=PLAINTEXT" in failed(await check(plain, load_fake))["broker"]
    tls = agent_settings(
        secured.bootstrap_servers,
        topic,
        tmp_path,
        kafka__security_protocol="SSL",
        kafka__ssl_ca_file=secured.folder / "ca.pem",
    )
    said = failed(await check(tls, load_fake))["broker"]
    assert "TLS" in said
    assert "kafka.security_protocol" in said
    stranger = agent_settings(
        secured.listener("SASL_SSL"),
        topic,
        tmp_path,
        kafka__security_protocol="SASL_SSL",
        kafka__sasl_username="alice",
        kafka__sasl_password=PASSWORDS["alice"],
    )
    said = failed(await check(stranger, load_fake))["broker"]
    assert "check kafka.ssl_ca_file" in said


async def test_missing_rights_are_named_with_the_command_that_gives_them(
    secured: LocalKafka, topic: str, tmp_path: Path
) -> None:
    settings = secrets(topic, tmp_path, secured, "SASL_PLAINTEXT PLAIN", "bob")
    topics = [topic, f"{topic}.anomalies", f"{topic}.dlq"]
    await create_topics(secured.bootstrap_servers, dict.fromkeys(topics, 1))
    said = failed(await check(settings, load_fake))["topics"]
    assert "this user may not see it" in said
    grant(secured, "bob", ResourceType.TOPIC, topic, "DESCRIBE")
    found = failed(await check(settings, load_fake))
    assert set(found) == {"read", "write"}
    assert "no right to" in found["read"]
    assert "no right to transactions" in found["write"]
    grant(secured, "bob", ResourceType.TOPIC, topic, "READ")
    grant(secured, "bob", ResourceType.GROUP, f"crosyslog-{topic}", "READ")
    transactions = ResourceType.TRANSACTIONAL_ID
    grant(secured, "bob", transactions, f"crosyslog-{topic}", "WRITE", "DESCRIBE")
    found = failed(await check(settings, load_fake))
    assert set(found) == {"write"}
    assert "no right to write" in found["write"]
    assert f"--topic {topic}.anomalies" in found["write"]


async def test_nobody_there_is_said_to_be_nobody(topic: str, tmp_path: Path) -> None:
    settings = agent_settings("127.0.0.1:1", topic, tmp_path)
    said = failed(await check(settings, load_fake))["broker"]
    assert "does a broker run there" in said
    unknown = agent_settings("no-such-host.invalid:9092", topic, tmp_path)
    assert "the name is unknown" in failed(await check(unknown, load_fake))["broker"]


async def test_a_model_that_cannot_be_used_is_found(topic: str, tmp_path: Path) -> None:
    settings = agent_settings("127.0.0.1:1", topic, tmp_path)
    findings = await check(settings, lambda *_: FakeEncoder("other"))
    assert "was made with the encoder" in failed(findings)["model"]


async def test_a_token_program_that_fails_is_named_and_its_output_is_not_shown(
    secured: LocalKafka, topic: str, tmp_path: Path
) -> None:
    settings = secrets(topic, tmp_path, secured, "SASL_PLAINTEXT OAUTHBEARER", "alice")
    (tmp_path / "token.py").write_text("print('hush-token'); raise SystemExit(3)")
    said = failed(await check(settings, load_fake))["broker"]
    assert "kafka.sasl_token_command" in said
    assert "hush-token" not in said


def test_no_secret_is_shown_anywhere(secured: LocalKafka, topic: str, tmp_path: Path) -> None:
    """In the log, in errors, in settings and in metrics, by the program itself."""
    settings = secrets(topic, tmp_path, secured, "SASL_PLAINTEXT PLAIN", "alice")
    environment = {
        "CROSYSLOG_KAFKA__SASL_PASSWORD": "hush-hush",
        "CROSYSLOG_LOG__LEVEL": "debug",
        "CROSYSLOG_MODEL__STORE": str(settings.model.store),
        "CROSYSLOG_ENCODER__CACHE": str(tmp_path / "cache"),
        "PATH": "/usr/bin:/bin",
    }
    options = [
        word
        for name, value in {
            "kafka.bootstrap_servers": settings.kafka.bootstrap_servers,
            "kafka.security_protocol": "SASL_PLAINTEXT",
            "kafka.sasl_username": "alice",
            "kafka.topic": topic,
        }.items()
        for word in ("--set", f"{name}={value}")
    ]
    for command in (["settings"], ["check"], ["replay-dlq"], []):
        ended = subprocess.run(
            [sys.executable, "-m", "agent", *command, *options],
            env=environment,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode in {0, 2}
        assert b"hush-hush" not in ended.stdout + ended.stderr
        assert b"Traceback" not in ended.stderr
