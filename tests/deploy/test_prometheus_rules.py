"""Rules, alerts and runbooks: held to the agent's metrics, to promtool, and fired live in small."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
from prometheus_client import start_http_server
from typer.testing import CliRunner

from agent.app import App
from agent.cli import app as agent_cli
from agent.metrics import Metrics
from agent.settings import load_settings
from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.errors import CrosyslogError, ToolMissingError
from deploy.prometheus.__main__ import main
from deploy.prometheus.cases import OF_NOW, OF_THE_PAST
from deploy.prometheus.generated import FOLDER, files
from deploy.prometheus.limits import Limits
from deploy.prometheus.local_prometheus import LocalPrometheus
from deploy.prometheus.recorded_cases import RECORDED
from deploy.prometheus.rules import ALERTS, build, page
from deploy.prometheus.simulated import METRICS
from deploy.prometheus.timing import QUICK, Timing, duration
from tests.conftest import absent
from trainer.cli import app as trainer_cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from wsgiref.simple_server import WSGIServer

PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (FOLDER.parents[1] / "docs" / "runbooks").glob("*.md")
}
RULES = [rule for group in build()["groups"] for rule in group["rules"]]
RECORDED_NAMES = {rule["record"] for rule in RULES if "record" in rule}
QUERIES = {
    f"{name}: {line}": line
    for name, text in PAGES.items()
    for block in re.findall(r"```promql\n(.*?)```", text, re.DOTALL)
    for line in block.splitlines()
}
EXPRESSIONS = {rule.get("record") or rule["alert"] + rule["labels"]["severity"]: rule["expr"]
               for rule in RULES} | QUERIES  # fmt: skip


@pytest.fixture(scope="module")
def samples() -> dict[str, list[dict[str, str]]]:
    """The labels of each sample that an agent exports, by the sample's name."""
    metrics = App(load_settings(flags={"kafka.topic": "x"})).metrics
    metrics.watch_cache(EmbeddingCache())
    metrics.consumer_lag.labels("x", 0).set(0)
    metrics.stage_duration.labels("encode").observe(0)
    metrics.stage_duration.labels("publish").observe(0)
    metrics.error("publish", OSError())
    metrics._model_info.labels("x", "1", "false").set(1)
    found: dict[str, list[dict[str, str]]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def selectors(expr: str) -> list[Any]:
    found = []

    def visit(node: object) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(expr), visit)
    return found


@pytest.mark.parametrize("expr", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_every_expression_parses_and_reads_what_exists(
    expr: str, samples: dict[str, list[dict[str, str]]]
) -> None:
    read = selectors(expr)
    assert {one.name for one in read} >= set(re.findall(r"(?<![:\w])crosyslog_\w+", expr))
    for one in read:
        if ":" in one.name:
            assert one.name in RECORDED_NAMES
        elif one.name != "up":
            assert one.name in samples, f"the agent exports no {one.name}"
            for matcher in one.matchers.matchers:
                values = {labels[matcher.name] for labels in samples[one.name]}
                assert any(re.fullmatch(matcher.value, value) for value in values), str(matcher)


def test_every_metric_that_a_runbook_names_exists(
    samples: dict[str, list[dict[str, str]]],
) -> None:
    families = set(samples) | RECORDED_NAMES | {re.sub("_bucket$", "", name) for name in samples}
    for name, text in PAGES.items():
        named = set(re.findall(r"(?:\w+:)?(?:crosyslog|process)_\w+(?::\w+)?", text))
        assert named <= families, name


def test_unit_tests_simulate_series_that_exist(samples: dict[str, list[dict[str, str]]]) -> None:
    for series in METRICS.values():
        name, labels = re.match(r"(\w+)(.*)", series).groups()  # type: ignore[union-attr]
        if name != "up":
            assert set(re.findall(r"(\w+)=", labels)) == set(samples[name][0]), series
            if given := re.search(r'(result|reason|le)="(.*?)"', labels):
                assert given[2] in {one[given[1]] for one in samples[name]}, series


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {page(alert) for alert in ALERTS} == set(PAGES)
    assert {rule["alert"] for rule in RULES if "alert" in rule} == set(ALERTS)
    for alert in ALERTS:
        text = PAGES[page(alert)]
        assert text.startswith(f"# {alert}\n")
        headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert headings == ["Confirm", "Causes", "Do", "Ignore it"]
        for link in re.findall(r"\]\(([a-z-]+\.md)\)", text):
            assert link in PAGES


def test_every_alert_says_where_and_how_much() -> None:
    for rule in RULES:
        if "alert" not in rule:
            continue
        told = rule["annotations"]
        assert re.search(r"\$labels\.(topic|instance)", told["summary"]), rule
        assert "$value" in told["description"], rule
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_commands_in_runbooks_exist() -> None:
    clis = {"crosyslog-agent": agent_cli, "trainer": trainer_cli}
    for name, text in PAGES.items():
        code = re.findall(r"`([^`\n]+)`", text) + re.findall(
            r"^(?:crosyslog-agent|trainer) .*$", text, re.MULTILINE
        )
        for line in code:
            program, *words = line.split()
            if program not in clis:
                continue
            commands = [word for word in words if re.fullmatch("[a-z][a-z-]*", word)]
            options = {word for word in words if word.startswith("--")}
            if "--reason" in options:
                commands = commands[:1]  # what follows is the reason
            shown = CliRunner().invoke(clis[program], [*commands, "--help"], prog_name=program)
            assert shown.exit_code == 0, f"{name}: {line}"
            assert options <= set(re.findall(r"--[a-z-]+", shown.output)), f"{name}: {line}"


def test_every_alert_has_cases_that_fire_and_that_stay_silent() -> None:
    cases = [*OF_NOW, *OF_THE_PAST]
    fires = Counter(one.alert for case in cases for all_ in case.fires.values() for one in all_)
    assert set(fires) == set(ALERTS)
    silent = [case for case in cases if not any(case.fires.values()) and case not in RECORDED]
    assert len(silent) >= 2 * len(ALERTS)


def test_the_committed_files_are_current(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"]) == 0, "run python -m deploy.prometheus"
    assert main(["--folder", str(tmp_path)]) == 0
    assert main(["--folder", str(tmp_path), "--check"]) == 0
    (tmp_path / "rules.yml").write_text("")
    (tmp_path / "rules.test.yml").unlink()
    assert main(["--folder", str(tmp_path), "--check"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert main(["--folder", str(tmp_path), "--runbooks", "https://wiki.example/", "--check"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules.test.yml"),
        ("test", "rules", "rules.history.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_takes_the_files(arguments: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        absent("prometheus", "promtool checks the rules and runs their unit tests")
    done = subprocess.run(
        ["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "SUCCESS" in told
    assert "FAILED" not in told


@pytest.mark.parametrize("name", [field.name for field in fields(Timing)])
def test_every_time_has_an_effect(name: str) -> None:
    assert build(replace(Timing(), **{name: 123_457.0})) != build()


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_every_limit_has_an_effect(name: str) -> None:
    assert build(limits=replace(Limits(), **{name: 0.77})) != build()


def test_no_time_of_production_is_left_in_quick_rules() -> None:
    defaults = {duration(getattr(Timing(), field.name)) for field in fields(Timing)}
    quick = str(build(QUICK))
    assert not [one for one in defaults if re.search(rf"\b{one}\b", quick)]


def test_job_and_pages_can_be_named() -> None:
    rules = str(build(job="release-a", runbooks="https://wiki.example/"))
    assert "crosyslog-agent" not in rules
    assert "'https://wiki.example/agent-down.md'" in rules
    assert "https://wiki.example/agent-down.md" in files("https://wiki.example/")["rules.test.yml"]


def test_the_files_of_another_job_hold(tmp_path: Path) -> None:
    assert main(["--folder", str(tmp_path), "--job", "release-a"]) == 0
    assert main(["--folder", str(tmp_path), "--check"]) == 1
    assert "job_name: release-a" in (tmp_path / "prometheus.yml").read_text()
    assert "crosyslog-agent" not in (tmp_path / "rules.yml").read_text()
    if shutil.which("promtool") is None:
        absent("prometheus", "promtool checks the rules and runs their unit tests")
    command = ["promtool", "test", "rules", "rules.test.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_job_that_would_break_an_expression_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--folder", str(tmp_path), "--job", 'a"}'])
    assert "letters, digits" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("seconds", "text"), [(300, "5m"), (5400, "90m"), (604_800, "7d"), (0.5, "500ms"), (0, "0s")]
)
def test_a_time_is_written_as_prometheus_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_missing_prometheus_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="install it"), LocalPrometheus(None, []):
        pass


@pytest.fixture
def prometheus_installed() -> None:
    if shutil.which("prometheus") is None:
        absent("prometheus", "alerts are fired on a real one")


@pytest.mark.usefixtures("prometheus_installed")
def test_a_rule_that_prometheus_does_not_take_is_named() -> None:
    rules = {"groups": [{"name": "g", "rules": [{"alert": "Broken", "expr": "rate("}]}]}
    with pytest.raises(CrosyslogError, match="Broken"), LocalPrometheus(rules, []):
        pass


@dataclass
class Load:
    """What a simulated agent does each second, and its state."""

    lines: float = 400
    read: float = 400
    anomalies: float = 1
    novel: float = 2
    misses: float = 0.2
    dead: float = 0
    aborted: float = 0
    ready: bool = True


class SimulatedAgent:
    """The agent's own metrics, counted up under a load that a test sets, and served."""

    def __init__(self) -> None:
        self.load = Load()
        self.metrics = Metrics()
        self.metrics.describe("web-logs", "g", lambda: None if self.load.ready else "not now")
        self.cache = EmbeddingCache()
        self.metrics.watch_cache(self.cache)
        self.waiting = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._server: WSGIServer | None = None
        self._serving: threading.Thread | None = None
        self.port = 0

    def __enter__(self) -> SimulatedAgent:
        self.serve()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.go_away()

    def serve(self) -> None:
        self._server, self._serving = start_http_server(
            self.port, "127.0.0.1", self.metrics.registry
        )
        self.port = self._server.server_port

    def go_away(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.shutdown()
            self._server.server_close()
            self._serving.join()
            self._server = None

    def _work(self) -> None:
        metrics, before, misses = self.metrics, time.monotonic(), 0.0
        while not self._ended.wait(0.1):
            load, now = self.load, time.monotonic()
            seconds, before = now - before, now
            metrics.lines_received.inc(load.read * seconds)
            metrics.lines_scored.inc(load.read * seconds)
            metrics.anomalies.inc(load.anomalies * seconds)
            metrics.novel_lines.inc(load.novel * seconds)
            metrics.dead_letters.labels("null").inc(load.dead * seconds)
            metrics.transactions.labels("committed").inc(10 * seconds)
            metrics.transactions.labels("aborted").inc(load.aborted * seconds)
            misses += load.misses * seconds
            self.cache.counts.misses = int(misses)
            self.waiting = max(0.0, self.waiting + (load.lines - load.read) * seconds)
            metrics.consumer_lag.labels("web-logs", 0).set(self.waiting)


@pytest.fixture
def agent() -> Iterator[SimulatedAgent]:
    with SimulatedAgent() as simulated:
        yield simulated


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.25)


@pytest.mark.usefixtures("prometheus_installed")
def test_alerts_fire_and_clear_on_a_real_prometheus(agent: SimulatedAgent) -> None:
    with LocalPrometheus(build(QUICK), [f"127.0.0.1:{agent.port}"]) as prometheus:

        def fires(*alerts: str) -> None:
            # Some for moments only: what is going on becomes the past that it is compared with.
            left = {f"Crosyslog{alert}" for alert in alerts}
            deadline = time.monotonic() + 60
            while left:
                assert time.monotonic() < deadline, left
                time.sleep(0.25)
                left -= prometheus.firing()

        def clears() -> None:
            agent.load, agent.waiting = Load(), 0.0
            wait_for(lambda: not prometheus.firing())

        # Some past, which alerts compare with.
        past = duration(QUICK.history_min + 4)
        wait_for(lambda: prometheus.query(f"job_topic:crosyslog_anomalies:any offset {past}"))
        assert prometheus.firing() == set()

        agent.load = Load(dead=50, aborted=10, anomalies=50, novel=200, misses=200)
        agent.metrics.model_reloads.labels("refused").inc()
        several = ("DeadLetters", "TransactionAborts", "AnomalyStorm", "Drift", "CacheCollapsed")
        fires(*several, "ModelReloadFailed")
        (storm,) = (
            alert
            for alert in prometheus.alerts()
            if alert["labels"]["alertname"] == "CrosyslogAnomalyStorm"
        )
        assert storm["labels"]["topic"] == "web-logs"
        assert re.match(r"\d+(\.\d+)? anomalies a second", storm["annotations"]["description"])
        clears()

        agent.load = Load(read=0, anomalies=0, novel=0)
        fires("NoLines", "LagGrowing")
        clears()

        agent.load = Load(ready=False)
        fires("NotReady")
        clears()

        agent.load = Load(anomalies=0)
        fires("AnomalySilence")
        clears()

        agent.go_away()
        fires("AgentDown")
        agent.serve()
        clears()

        end = time.time()
        (up,) = prometheus.query_range("up", end - 10, end, 1)
        assert {value for _, value in up["values"]} == {"0", "1"}
