"""compose.yaml against the published schema, and its settings and paths against the project's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema.validators import validator_for  # type: ignore[import-untyped]

import crosyslog
from agent.settings import load_settings
from crosyslog.errors import InputError
from deploy.compose.replay import main, send_paced, simulated_rounds
from deploy.kafka_jars import KAFKA_VERSION
from deploy.kafka_topics import create_topics
from deploy.topic import read
from tests.conftest import KafkaAddress

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"

#: What ends by itself; all others are to stay up.
ONE_SHOTS = {"topic", "model"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return dict(yaml.safe_load((COMPOSE / "compose.yaml").read_text()))


@pytest.fixture(scope="module")
def services(project: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(project["services"])


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Source and target of each volume."""
    found = []
    for volume in service.get("volumes", []):
        source, target, *_ = volume.split(":")
        found.append((source, target))
    return found


def test_it_fits_the_published_schema(project: dict[str, Any]) -> None:
    schema = json.loads((COMPOSE / "compose-spec.json").read_text())
    validator = validator_for(schema)
    validator.check_schema(schema)
    assert [error.message for error in validator(schema).iter_errors(project)] == []
    broken = project | {"services": {"agent": {"imagee": "x"}}}
    assert list(validator(schema).iter_errors(broken))


def test_what_is_mounted_exists(
    project: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    for name, service in services.items():
        for source, _ in mounts(service):
            if source.startswith("."):
                assert (COMPOSE / source).exists(), f"{name}: {source}"
            else:
                assert source in project["volumes"], f"{name}: {source}"


def test_every_setting_of_the_agent_is_one(
    services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services["agent"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    brokers = services["kafka"]["environment"]
    assert f"INSIDE://{settings.kafka.bootstrap_servers}" in brokers["KAFKA_ADVERTISED_LISTENERS"]
    topic = settings.kafka.resolved_topic
    assert f"--topic={topic}" in services["topic"]["command"]
    assert services["replay"]["command"][0] == topic
    # The model that is made is the one that this topic's agent looks for.
    (script,) = services["model"]["command"]
    assert f"trainer adapt --target {settings.target} " in script
    assert f"$$CROSYSLOG_MODEL__STORE/{settings.target}/current" in script


def test_the_image_is_built_from_the_dockerfile(services: dict[str, dict[str, Any]]) -> None:
    build = services["agent"]["build"]
    context = COMPOSE / build["context"]
    assert context.resolve() == ROOT
    assert (context / build["dockerfile"]).is_file()
    dockerfile = (context / build["dockerfile"]).read_text()
    for argument in build["args"]:
        assert f"ARG {argument}=" in dockerfile
    volumes = re.findall(r'^VOLUME \["(.+)", "(.+)"\]', dockerfile, re.MULTILINE)[0]
    assert {target for _, target in mounts(services["agent"])} == set(volumes)


def test_ports_are_open_on_loopback_alone(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_container_has_no_more_rights_than_it_needs(
    services: dict[str, dict[str, Any]],
) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        # Kafka's image writes its configuration when it starts.
        assert service.get("read_only", False) == (name != "kafka"), name
        assert not service.get("privileged"), name


def test_images_are_pinned_and_kafka_is_the_one_of_the_tests(
    services: dict[str, dict[str, Any]],
) -> None:
    for service in services.values():
        assert re.fullmatch(r"[a-z0-9/]+:v?\d+\.\d+\.\d+", service["image"])
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert services["agent"]["image"] == f"crosyslog:{crosyslog.__version__}"


def test_what_depends_waits_for_what_can_say_that_it_is_there(
    services: dict[str, dict[str, Any]],
) -> None:
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            if other in ONE_SHOTS:
                assert how == {"condition": "service_completed_successfully"}
                assert "restart" not in services[other]
            else:
                # The agent's check is in the image.
                assert how == {"condition": "service_healthy"}
                assert other == "agent" or services[other]["healthcheck"]["test"]


def test_prometheus_and_grafana_read_what_is_mounted(services: dict[str, dict[str, Any]]) -> None:
    targets = {target: COMPOSE / source for source, target in mounts(services["prometheus"])}
    settings = Path("/etc/prometheus/prometheus.yml")
    assert f"--config.file={settings}" in services["prometheus"]["command"]
    prometheus = yaml.safe_load(targets[str(settings)].read_text())
    for name in prometheus["rule_files"]:
        assert str(settings.parent / name) in targets
    (scraped,) = prometheus["scrape_configs"]
    (static,) = scraped["static_configs"]
    assert "agent:9464" in static["targets"]
    shown = {target: COMPOSE / source for source, target in mounts(services["grafana"])}
    provisioning = shown["/etc/grafana/provisioning"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "crosyslog.yaml").read_text())[
        "providers"
    ]
    assert list(shown[provider["options"]["path"]].glob("*.json"))
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"


def test_the_replay_sends_another_log_each_round_and_no_label() -> None:
    first, second = simulated_rounds("thunderbird", 300, 2)
    assert len(first) == len(second) == 300
    assert first != second
    # A line of Thunderbird begins with its label; without it, with its time in seconds.
    assert all(re.match(rb"\d{10} ", line) for line in first)


def test_the_replay_refuses_a_system_that_it_does_not_know() -> None:
    with pytest.raises(InputError):
        next(simulated_rounds("nonesuch", 10, 1))


@pytest.mark.kafka
async def test_the_replay_sends_all_lines_to_the_topic(kafka: KafkaAddress) -> None:
    topic = "compose-replay"
    await create_topics(kafka.bootstrap_servers, {topic: 2})
    rounds = list(simulated_rounds("thunderbird", 200, 2))
    sent = await send_paced(kafka.bootstrap_servers, topic, iter(rounds), 5_000)
    assert sent == 400
    found = await read(kafka.bootstrap_servers, topic)
    assert sorted(found) == sorted(line for lines in rounds for line in lines)


def test_the_replay_says_in_one_line_that_there_is_no_broker(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["web-logs", "--kafka=127.0.0.1:1", "--lines=10", "--rounds=1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
