"""What values the chart takes and refuses, as helm says, and what it tells whoever installs it."""

import shutil
from pathlib import Path

import pytest
import yaml

from deploy.helm.chart_files import CHART
from tests.deploy.helm_chart import SETS, run, values_of

pytestmark = pytest.mark.helm


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
    ],
)
def test_a_wrong_value_is_refused_and_named(assignment: str, said: str) -> None:
    done = run("template", "web", str(CHART), *values_of("minimal"), "--set", assignment)
    assert done.returncode != 0
    assert said in done.stderr
    assert not done.stdout


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
