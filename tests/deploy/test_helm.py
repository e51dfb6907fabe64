"""The Helm chart as `helm` renders it: against Kubernetes' schemas, and against the agent."""

import json
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

import crosyslog
from agent.setting_parts import HttpSettings
from deploy.helm.chart_files import CHART
from deploy.prometheus.scraping import JOB
from tests.deploy.helm_chart import (
    SETS,
    container,
    environment,
    of_kind,
    one_of_kind,
    pod,
    rendered,
    settings_of,
    workload,
)

ROOT = Path(__file__).parents[2]

#: The oldest that the chart says it runs on and that the schemas know, and the newest.
VERSIONS = ("1.27", kubernetes_validate.latest_version())

#: Of operators, so without a schema here; each has a test below.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication"}

pytestmark = pytest.mark.helm


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", SETS)
def test_manifests_fit_the_schemas_of_kubernetes(name: str, version: str) -> None:
    checked = [one for one in rendered(name) if one["kind"] not in CUSTOM]
    assert checked
    for one in checked:
        kubernetes_validate.validate(one, version, strict=True)
    broken = json.loads(json.dumps(workload(rendered(name))))
    broken["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


@pytest.mark.parametrize("name", SETS)
def test_every_variable_is_a_setting(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(rendered(name), monkeypatch, tmp_path)
    given = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())["settings"]
    for part, names in given.items():
        for setting in names:
            assert setting in getattr(settings, part).model_fields_set
    assert settings.kafka.topic == "web-logs"
    assert settings.log.format == "json"
    assert settings.http.host == "0.0.0.0"  # noqa: S104 - a pod's own network
    (port,) = container(rendered(name))["ports"]
    assert port["containerPort"] == settings.http.port == HttpSettings().port
    static = workload(rendered(name))["kind"] == "StatefulSet"
    assert (settings.kafka.group_instance_id is not None) == static


def test_numbers_reach_the_agent_as_they_were_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(rendered("everything"), monkeypatch, tmp_path)
    assert settings.batch.max_lines == 1_000_000
    assert settings.batch.max_line_bytes == 1_048_576
    assert settings.batch.linger == pytest.approx(0.1)
    assert settings.kafka.session_timeout == 60
    assert settings.model.threshold == 0.75


def test_a_member_s_name_is_its_pod_s() -> None:
    (name,) = [
        one
        for one in container(rendered("minimal"))["env"]
        if one["name"] == "CROSYSLOG_KAFKA__GROUP_INSTANCE_ID"
    ]
    assert name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    headless = workload(rendered("minimal"))["spec"]["serviceName"]
    (service,) = [
        one
        for one in of_kind(rendered("minimal"), "Service")
        if one["metadata"]["name"] == headless
    ]
    assert service["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("name", SETS)
def test_probes_ask_what_the_agent_serves(name: str) -> None:
    agent = container(rendered(name))
    served = (ROOT / "agent" / "http.py").read_text()
    for probe, path in (
        ("startupProbe", "/startupz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")
    ):  # fmt: skip
        asked = agent[probe]["httpGet"]
        assert asked["path"] == path
        assert f'path == "{path}"' in served
        assert asked["port"] == agent["ports"][0]["name"]


@pytest.mark.parametrize("name", SETS)
def test_a_pod_has_no_more_rights_than_it_needs(name: str) -> None:
    spec, agent = pod(rendered(name)), container(rendered(name))
    assert spec["automountServiceAccountToken"] is False
    assert one_of_kind(rendered(name), "ServiceAccount")["automountServiceAccountToken"] is False
    rights = spec["securityContext"]
    assert rights["runAsNonRoot"] is True
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    dockerfile = (ROOT / "deploy" / "image" / "Dockerfile").read_text()
    assert f"USER {rights['runAsUser']}:{rights['runAsGroup']}\n" in dockerfile
    assert rights["fsGroup"] == rights["runAsGroup"]
    assert agent["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not of_kind(rendered(name), "Secret")


@pytest.mark.parametrize("name", SETS)
def test_all_that_is_written_lies_on_a_volume(name: str) -> None:
    mounts = {one["name"]: one for one in container(rendered(name))["volumeMounts"]}
    spec = workload(rendered(name))["spec"]
    claims = {one["metadata"]["name"] for one in spec.get("volumeClaimTemplates", [])}
    volumes = {one["name"] for one in pod(rendered(name))["volumes"]} | claims
    assert set(mounts) == volumes
    variables = environment(rendered(name))
    dockerfile = (ROOT / "deploy" / "image" / "Dockerfile").read_text()
    home = mounts["cache"]["mountPath"]
    assert f"HOME={home} " in dockerfile
    assert f"TMPDIR={home} " in dockerfile
    assert variables["CROSYSLOG_ENCODER__CACHE"].startswith(f"{home}/")
    if name == "url-store":
        assert variables["CROSYSLOG_MODEL__STORE"] == "s3://models/crosyslog"
        assert "models" not in mounts
    else:
        assert variables["CROSYSLOG_MODEL__STORE"] == mounts["models"]["mountPath"]


def test_secrets_come_by_reference() -> None:
    for name, secret, key in (
        ("tls", "kafka-user", "pw"),
        ("everything", "kafka-user", "password"),
    ):
        variables, volumes = environment(rendered(name)), pod(rendered(name))["volumes"]
        mounts = {one["name"]: one for one in container(rendered(name))["volumeMounts"]}
        assert "CROSYSLOG_KAFKA__SASL_PASSWORD" not in variables
        (sasl,) = [one["secret"] for one in volumes if one["name"] == "sasl"]
        assert sasl == {"secretName": secret, "items": [{"key": key, "path": "password"}]}
        path = f"{mounts['sasl']['mountPath']}/password"
        assert variables["CROSYSLOG_KAFKA__SASL_PASSWORD_FILE"] == path
        (tls,) = [one["secret"] for one in volumes if one["name"] == "tls"]
        files = {f"{mounts['tls']['mountPath']}/{one['path']}" for one in tls["items"]}
        named = {value for key, value in variables.items() if "__SSL_" in key}
        assert named == files
        assert all(mounts[one]["readOnly"] for one in ("sasl", "tls"))


def test_selectors_find_the_pods() -> None:
    for manifests in map(rendered, SETS):
        labels = workload(manifests)["spec"]["template"]["metadata"]["labels"]
        selectors = [workload(manifests)["spec"]["selector"]["matchLabels"]]
        selectors += [one["spec"]["selector"] for one in of_kind(manifests, "Service")]
        for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
            selectors += [one["spec"][key]["matchLabels"] for one in of_kind(manifests, kind)]
        assert len(selectors) >= 3
        for selector in selectors:
            assert selector.items() <= labels.items()


def test_the_monitor_finds_one_service_and_names_the_job() -> None:
    manifests = rendered("everything")
    monitor = one_of_kind(manifests, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    found = [
        one
        for one in of_kind(manifests, "Service")
        if wanted.items() <= one["metadata"]["labels"].items()
    ]
    (service,) = found
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == JOB
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint == {"port": "metrics", "path": "/metrics", "interval": "30s"}
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_rules_and_dashboards_are_those_of_the_project() -> None:
    manifests = rendered("everything")
    rule = one_of_kind(manifests, "PrometheusRule")
    original = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
    assert original["groups"]
    assert rule["spec"] == original
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    shown: dict[str, str] = {}
    for one in of_kind(manifests, "ConfigMap"):
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert len(json.dumps(one)) < 1_000_000  # what Kubernetes stores of one at most
        shown |= one["data"]
    originals = {path.name: path for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")}
    assert originals
    assert set(shown) == set(originals)
    for name, text in shown.items():
        assert json.loads(text) == json.loads(originals[name].read_text())


def test_the_cpu_scales_the_workload() -> None:
    manifests = rendered("everything")
    scaler = one_of_kind(manifests, "HorizontalPodAutoscaler")["spec"]
    target = workload(manifests)
    assert scaler["scaleTargetRef"] == {
        "apiVersion": target["apiVersion"],
        "kind": target["kind"],
        "name": target["metadata"]["name"],
    }
    # It would set them back at each upgrade.
    assert "replicas" not in target["spec"]


def test_keda_asks_for_the_lag_of_the_agents_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifests = rendered("keda")
    kafka = settings_of(manifests, monkeypatch, tmp_path).kafka
    scaled = one_of_kind(manifests, "ScaledObject")
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert scaled["spec"]["scaleTargetRef"]["name"] == workload(manifests)["metadata"]["name"]
    assert scaled["spec"]["scaleTargetRef"]["kind"] == workload(manifests)["kind"] == "Deployment"
    (trigger,) = scaled["spec"]["triggers"]
    # KEDA takes text alone.
    assert trigger["metadata"] == {
        "bootstrapServers": kafka.bootstrap_servers,
        "topic": kafka.resolved_topic,
        "consumerGroup": kafka.resolved_group,
        "lagThreshold": "2000000",
        "sasl": "scram_sha256",
        "tls": "enable",
    }
    rights = one_of_kind(manifests, "TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] == rights["metadata"]["name"]
    assert rights["spec"]["secretTargetRef"] == [
        {"parameter": "username", "name": "kafka-user", "key": "user"},
        {"parameter": "password", "name": "kafka-user", "key": "password"},
        {"parameter": "ca", "name": "kafka-tls", "key": "ca.crt"},
    ]
    assert not of_kind(rendered("url-store"), "TriggerAuthentication")
    assert (
        "authenticationRef"
        not in one_of_kind(rendered("url-store"), "ScaledObject")["spec"]["triggers"][0]
    )


def test_the_network_policy_opens_what_is_asked_for() -> None:
    policy = one_of_kind(rendered("everything"), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (ingress,) = policy["ingress"]
    assert ingress["ports"] == [{"port": "metrics"}]
    assert ingress["from"][0]["namespaceSelector"]
    names, kafka, more = policy["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert kafka["ports"] == [{"port": 9093}]
    assert kafka["to"] == [{"podSelector": {"matchLabels": {"app": "kafka"}}}]
    assert more == {"ports": [{"port": 8443}]}
    egress = one_of_kind(rendered("url-store"), "NetworkPolicy")["spec"]["egress"]
    assert {"ports": [{"port": 443}]} in egress


def test_resources_fit_what_was_measured_and_a_stop_has_time() -> None:
    resources = container(rendered("minimal"))["resources"]
    assert resources == {
        "requests": {"cpu": "1", "memory": "1200Mi"},
        "limits": {"memory": "2Gi"},
    }
    assert pod(rendered("minimal"))["terminationGracePeriodSeconds"] > 10


def test_what_pods_are_given_besides_reaches_them() -> None:
    given = yaml.safe_load((CHART / "ci" / "everything-values.yaml").read_text())
    spec, agent = pod(rendered("everything")), container(rendered("everything"))
    for name in (
        "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints",
        "priorityClassName", "imagePullSecrets",
    ):  # fmt: skip
        assert spec[name] == given[name]
    meta = workload(rendered("everything"))["spec"]["template"]["metadata"]
    assert meta["annotations"] == given["podAnnotations"]
    assert given["podLabels"].items() <= meta["labels"].items()
    assert agent["envFrom"] == given["extraEnvFrom"]
    assert given["extraEnv"][0] in agent["env"]
    assert agent["resources"] == given["resources"]
    assert agent["image"] == "registry.example/crosyslog:0.1.0-cuda"
    (claim,) = workload(rendered("everything"))["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"
    account = one_of_kind(rendered("everything"), "ServiceAccount")
    assert account["metadata"]["annotations"] == given["serviceAccount"]["annotations"]
    assert spec["serviceAccountName"] == account["metadata"]["name"]
    assert container(rendered("minimal"))["image"] == f"crosyslog:{crosyslog.__version__}"
