"""What values the chart takes and refuses, as helm says, and what it tells whoever installs it."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

import crosyslog
from deploy.helm.chart_files import CHART
from tests.deploy.helm_chart import (
    SETS,
    container,
    environment,
    of_kind,
    one_of_kind,
    pod,
    run,
    settings_of,
    template,
    values_of,
    workload,
)

pytestmark = pytest.mark.helm

OTHER_PORT = "networkPolicy.enabled=true,networkPolicy.kafkaPorts={9093}"
OAUTH = "settings.kafka.security_protocol=SASL_SSL,settings.kafka.sasl_mechanism=OAUTHBEARER"


@pytest.mark.parametrize("name", SETS)
def test_lint_finds_nothing(name: str) -> None:
    done = run("lint", "--strict", str(CHART), *values_of(name))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_a_topic_and_brokers_are_needed() -> None:
    done = run("template", "web", str(CHART))
    assert done.returncode != 0
    assert "'/settings/kafka'" in done.stderr
    assert "'bootstrap_servers', 'topic'" in done.stderr


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("replica=3", "'replica'"),
        ("settings.kafka.topik=x", "'topik'"),
        ("settings.kafka.topic=a b", "/settings/kafka/topic"),
        ("settings.kafka.topic=", "/settings/kafka/topic"),
        ("settings.batch.max_lines=0", "/settings/batch/max_lines"),
        ("settings.delivery.guarantee=sometimes", "'exactly-once'"),
        ("settings.kafka.sasl_password=x", "'sasl_password'"),
        ("settings.model.store=/tmp", "'store'"),
        ("kind=DaemonSet", "'StatefulSet'"),
        ("terminationGracePeriodSeconds=5", "/terminationGracePeriodSeconds"),
        ("kafka.tls.existingSecret=x", "security_protocol=PLAINTEXT"),
        ("settings.kafka.security_protocol=SASL_SSL", "needs kafka.sasl.existingSecret"),
        ("autoscaling.maxReplicas=1", "maxReplicas is less"),
        ("kafka.tls.keyKey=tls.key", "go together"),
        # What the agent would refuse.
        ("settings.batch.linger=soon", "/settings/batch/linger"),
        ("settings.batch.linger=1e21", "/settings/batch/linger"),
        ("settings.batch.linger=61", "/settings/batch/linger"),
        ("settings.batch.linger=2m", "settings.batch.linger=2m is impossible; allowed: 0 to 60"),
        ("settings.kafka.session_timeout=0.5s", "allowed: 1 to 1800 seconds"),
        ("settings.kafka.start_from=yesterday", "/settings/kafka/start_from"),
        ("settings.kafka.start_from=2026-01-31T12:00:00", "/settings/kafka/start_from"),
        ("settings.kafka.output_topic=web-logs", "output_topic=web-logs is the topic that is read"),
        ("settings.kafka.dead_letter_topic=web-logs", "is the topic that is read, or that of"),
        ("settings.kafka.dead_letter_topic=web-logs.anomalies", "or that of the events"),
        (OAUTH, "needs settings.kafka.sasl_token_command"),
        (
            f"{OAUTH},settings.kafka.sasl_token_command=x,kafka.sasl.existingSecret=x",
            "takes a token alone",
        ),
        ("settings.kafka.sasl_token_command=token", "settings.kafka.sasl_mechanism=OAUTHBEARER"),
        ("settings.kafka.sasl_username=agent", "security_protocol=PLAINTEXT: use SASL_SSL"),
        # What Kubernetes would, or would never get to work.
        (
            "networkPolicy.enabled=true,settings.kafka.bootstrap_servers=a:9092\\,b:9094",
            "networkPolicy.kafkaPorts lacks 9094, the port of b:9094",
        ),
        (f"{OTHER_PORT},settings.kafka.bootstrap_servers=kafka", "lacks 9092"),
        ("podLabels.app\\.kubernetes\\.io/name=x", "podLabels: the chart itself sets app.kubern"),
        ("dashboards.labels.helm\\.sh/chart=x", "dashboards.labels: the chart itself sets helm"),
        ("autoscaling.kind=hpa,resources.requests.cpu=null", "set resources.requests.cpu"),
        ("autoscaling.kind=hpa,resources.requests.cpu=0m", "set resources.requests.cpu"),
        ("autoscaling.kind=hpa,resources.requests=null", "set resources.requests.cpu"),
        ("autoscaling.kind=hpa,resources=null", "set resources.requests.cpu"),
        ("podDisruptionBudget.maxUnavailable=0%", "/podDisruptionBudget/maxUnavailable"),
        ("podDisruptionBudget.maxUnavailable=101%", "/podDisruptionBudget/maxUnavailable"),
        ("image.repository=foo@sha256:00", "/image/repository"),
        ("image.repository=foo:1", "/image/repository"),
        ("image.digest=sha256:00", "/image/digest"),
        ("replicas=3000000000", "/replicas"),
    ],
)
def test_a_wrong_value_is_refused_and_named(assignment: str, said: str) -> None:
    done = run("template", "web", str(CHART), *values_of("minimal"), "--set", assignment)
    assert done.returncode != 0
    assert said in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("number", ["1e21", "61"])
def test_a_number_of_seconds_has_limits_too(number: str) -> None:
    given = ["--set-json", f"settings.batch.linger={number}"]
    done = run("template", "web", str(CHART), *values_of("minimal"), *given)
    assert done.returncode != 0
    assert "/settings/batch/linger" in done.stderr


@pytest.mark.parametrize("release", ["a.b", "1st", "x" * 51 + ".b"])
def test_a_release_s_name_that_no_service_can_have_is_refused(release: str) -> None:
    done = run("template", release, str(CHART), *values_of("minimal"))
    assert done.returncode != 0
    assert f"the release's name {release} makes" in done.stderr


@pytest.mark.parametrize("release", ["x" * 50 + "--b", "x" * 53])
def test_a_long_name_is_cut_to_one_that_services_can_have(release: str) -> None:
    manifests = template("minimal", release=release)
    for one in of_kind(manifests, "Service"):
        assert re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", one["metadata"]["name"])
    assert not workload(manifests)["metadata"]["name"].endswith("-")


@pytest.mark.parametrize(
    "assignment",
    [
        "networkPolicy.kafkaPorts={9094}",
        # Rules of one's own may open it.
        "networkPolicy.extraEgress[0].ports[0].port=9094",
    ],
)
def test_a_policy_that_lets_brokers_through_is_taken(assignment: str) -> None:
    servers = "settings.kafka.bootstrap_servers=kafka:9094,networkPolicy.enabled=true"
    policy = one_of_kind(template("minimal", "--set", f"{servers},{assignment}"), "NetworkPolicy")
    ports = [port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]]
    assert 9094 in ports


def test_names_that_look_like_numbers_stay_text() -> None:
    manifests = template(
        "tls",
        *("--set-string", "serviceAccount.name=123,priorityClassName=true,store.existingClaim=1e3"),
        *("--set-string", "kafka.sasl.existingSecret=123,kafka.sasl.passwordKey=true"),
        *("--set-string", "kafka.tls.existingSecret=456,kafka.tls.caKey=null"),
        release="crosyslog-agent",
    )
    spec = pod(manifests)
    assert spec["serviceAccountName"] == "123"
    assert one_of_kind(manifests, "ServiceAccount")["metadata"]["name"] == "123"
    assert spec["priorityClassName"] == "true"
    volumes = {one["name"]: one for one in spec["volumes"]}
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == "1e3"
    assert volumes["sasl"]["secret"] == {
        "secretName": "123",
        "items": [{"key": "true", "path": "password"}],
    }
    assert volumes["tls"]["secret"] == {
        "secretName": "456",
        "items": [{"key": "null", "path": "ca.crt"}],
    }


def test_a_release_and_keda_s_names_that_look_like_numbers_stay_text() -> None:
    manifests = template(
        "keda", "--set-string", "kafka.sasl.existingSecret=123,kafka.sasl.usernameKey=true"
    )
    rights = one_of_kind(manifests, "TriggerAuthentication")["spec"]["secretTargetRef"]
    assert rights[0] == {"parameter": "username", "name": "123", "key": "true"}
    (named,) = [
        one["valueFrom"]["secretKeyRef"]
        for one in container(manifests)["env"]
        if one["name"] == "CROSYSLOG_KAFKA__SASL_USERNAME"
    ]
    assert named == {"name": "123", "key": "true"}
    labels = workload(template("minimal", release="true"))["metadata"]["labels"]
    assert labels["app.kubernetes.io/instance"] == "true"


def test_large_numbers_are_written_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifests = template(
        "minimal",
        *("--set-json", "settings.encoder.cache_entries=1e21"),
        *("--set-json", "replicas=1000000,terminationGracePeriodSeconds=1000000"),
    )
    settings = settings_of(manifests, monkeypatch, tmp_path)
    assert settings.encoder.cache_entries == 10**21
    assert workload(manifests)["spec"]["replicas"] == 1_000_000
    assert pod(manifests)["terminationGracePeriodSeconds"] == 1_000_000


def test_a_token_takes_the_place_of_a_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = f"{OAUTH},settings.kafka.sasl_token_command=get-token"
    manifests = template("minimal", "--set", given)
    kafka = settings_of(manifests, monkeypatch, tmp_path).kafka
    assert (kafka.sasl_token_command, kafka.sasl_password) == ("get-token", None)


def test_a_limit_of_cpu_is_a_request_too() -> None:
    given = "autoscaling.kind=hpa,resources.requests.cpu=null,resources.limits.cpu=2"
    assert of_kind(template("minimal", "--set", given), "HorizontalPodAutoscaler")


def test_an_image_can_have_a_port_a_tag_and_a_digest() -> None:
    digest = "sha256:" + "0f" * 32

    def image(given: str) -> str:
        return str(container(template("minimal", "--set", given))["image"])

    repository = "registry.example:5000/team/crosyslog"
    assert image(f"image.repository={repository}") == f"{repository}:{crosyslog.__version__}"
    assert image(f"image.digest={digest}") == f"crosyslog@{digest}"
    assert image(f"image.digest={digest},image.tag=cuda") == f"crosyslog:cuda@{digest}"


def test_a_dollar_reaches_the_agent_as_it_was_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifests = template("minimal", "--set", "settings.kafka.group_id=a$$b$(HOME)$")
    values = {one["name"]: one.get("value") for one in container(manifests)["env"]}
    assert values["CROSYSLOG_KAFKA__GROUP_ID"] == "a$$$$b$$(HOME)$$"
    assert environment(manifests)["CROSYSLOG_KAFKA__GROUP_ID"] == "a$$b$(HOME)$"
    assert settings_of(manifests, monkeypatch, tmp_path).kafka.group_id == "a$$b$(HOME)$"
    stored = template("minimal", "--set", "store.url=s3://models/$$x")
    values = {one["name"]: one.get("value") for one in container(stored)["env"]}
    assert values["CROSYSLOG_MODEL__STORE"] == "s3://models/$$$$x"


def test_the_notes_say_where_events_go(tmp_path: Path) -> None:
    """Helm shows notes only where it installs, so they are rendered as a manifest of a copy."""
    chart = tmp_path / CHART.name
    shutil.copytree(CHART, chart)
    notes = (chart / "templates" / "NOTES.txt").read_text()
    (chart / "templates" / "_notes.tpl").write_text('{{ define "notes" }}' + notes + "{{ end }}")
    (chart / "templates" / "notes.yaml").write_text('text: {{ include "notes" . | quote }}\n')

    def shown(name: str) -> str:
        show = ["--show-only", "templates/notes.yaml"]
        done = run("template", "web", str(chart), *values_of(name), *show)
        assert done.returncode == 0, done.stderr
        return str(yaml.safe_load(done.stdout)["text"])

    said = shown("minimal")
    assert "read by the group crosyslog-web-logs; events go to web-logs.anomalies." in said
    assert "port-forward service/web-crosyslog-agent 9464" in said
    assert "No store is set" in said
    assert "read by the group crosyslog-web; events go to web-anomalies." in shown("everything")
    assert "No store is set" not in shown("url-store")
