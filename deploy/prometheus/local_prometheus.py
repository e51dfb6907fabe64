"""A Prometheus of our own, for tests and trials by hand.

    with LocalPrometheus(build(QUICK), ["127.0.0.1:9464"]) as prometheus:
        prometheus.query("sum(rate(crosyslog_lines_scored_total[5s]))")
        prometheus.firing()

It needs the program `prometheus` (Debian and Ubuntu: the package of that name).
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from crosyslog.errors import CrosyslogError, ToolMissingError
from deploy.prometheus.scraping import configuration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

# A start takes a tenth of a second; this bounds one on a machine busy with other work.
_READY_SECONDS = 30.0
_STOP_SECONDS = 10.0
_RETRY_SECONDS = 0.05
_ANSWER_SECONDS = 30.0

# Prometheus must not outlive us, not even if we are SIGKILLed: the kernel then closes our end of
# the pipe that this shell reads, as in deploy/local_kafka.py.
_GUARD = 'read -r ended || kill -KILL "$1"'


class LocalPrometheus:
    """A Prometheus on a free loopback port, with its data in a temporary folder.

    Args:
        rules: a rules file as data, evaluated as often as is scraped; none for no rules.
        targets: what to scrape, `host:port` each; their job is `crosyslog-agent`.
        scrape_seconds: how often.
    """

    def __init__(
        self,
        rules: Mapping[str, Any] | None,
        targets: Sequence[str],
        scrape_seconds: float = 1.0,
    ) -> None:
        self._rules = rules
        self._targets = targets
        self._scrape_seconds = scrape_seconds
        self._folder = Path()
        self._url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return self._url

    def __enter__(self) -> Self:
        """Starts it; returns when it answers queries and has scraped every target, in 5 to 10 s.

        Raises:
            ToolMissingError: `prometheus` is not installed.
            CrosyslogError: it ended, for a rule that it does not take for example, or was not
                ready within 30 s.
        """
        program = shutil.which("prometheus")
        if program is None:
            raise ToolMissingError(
                "prometheus is needed to scrape and alert on this machine: install it "
                "(Debian and Ubuntu: apt-get install prometheus)"
            )
        self._folder = Path(tempfile.mkdtemp(prefix="crosyslog-prometheus-"))
        try:
            self._write_settings()
            self._launch(program)
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends it, by SIGTERM and after 10 s by SIGKILL, and removes its data."""
        self._stop()

    def query(self, expr: str) -> list[dict[str, Any]]:
        """An expression's value now: of each series, `metric` (its labels) and `value`.

        Raises:
            CrosyslogError: Prometheus does not take the expression; it says why.
        """
        found = self._ask("query", {"query": expr})
        if found["resultType"] == "scalar":
            return [{"metric": {}, "value": found["result"]}]
        result: list[dict[str, Any]] = found["result"]
        return result

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """An expression's values over a time: of each series, `metric` and `values`.

        Args:
            expr: the expression.
            start: Unix seconds.
            end: Unix seconds.
            step: seconds between two values.

        Raises:
            CrosyslogError: Prometheus does not take the expression; it says why.
        """
        asked = {"query": expr, "start": str(start), "end": str(end), "step": str(step)}
        result: list[dict[str, Any]] = self._ask("query_range", asked)["result"]
        return result

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or firing, with `labels`, `annotations` and `state`."""
        alerts: list[dict[str, Any]] = self._ask("alerts", {})["alerts"]
        return alerts

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {one["labels"]["alertname"] for one in self.alerts() if one["state"] == "firing"}

    def _ask(self, what: str, asked: Mapping[str, str]) -> dict[str, Any]:
        try:
            url = f"{self._url}/api/v1/{what}?{urlencode(asked)}"
            with urlopen(url, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 - our own address
                data: dict[str, Any] = json.load(answer)["data"]
                return data
        except HTTPError as error:
            with error:
                told = json.load(error).get("error", error.reason)
            raise CrosyslogError(f"Prometheus does not answer {asked}: {told}") from error

    def _write_settings(self) -> None:
        rules = {} if self._rules is None else dict(self._rules)
        (self._folder / "rules.yml").write_text(yaml.safe_dump(rules), encoding="utf-8")
        settings = configuration(
            self._targets,
            scrape_seconds=self._scrape_seconds,
            evaluation_seconds=self._scrape_seconds,
            rule_files=["rules.yml"],
        )
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    def _launch(self, program: str) -> None:
        command = [program, f"--config.file={self._folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={self._folder / 'data'}"]
        # It takes a free port and says which: nobody can take that in between.
        command += ["--web.listen-address=127.0.0.1:0"]
        with (self._folder / "log").open("wb") as log:
            # A session of its own: a terminal's Ctrl-C is for us, and we end it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "sh", str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _wait_until_ready(self) -> None:
        process = self._process
        assert process is not None  # noqa: S101 - it was launched
        deadline = time.monotonic() + _READY_SECONDS
        while not (self._is_ready() and self._has_scraped()):
            if process.poll() is not None:
                raise CrosyslogError(f"the local Prometheus ended by itself: {self._last_words()}")
            if time.monotonic() > deadline:
                raise CrosyslogError(
                    f"the local Prometheus was not ready within {_READY_SECONDS:.0f} s: "
                    f"{self._last_words()}"
                )
            time.sleep(_RETRY_SECONDS)

    def _is_ready(self) -> bool:
        log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        listens = re.search(r'msg="Listening on"[^\n]*\baddress=(\S+:\d+)', log)
        if listens is None:
            return False
        self._url = f"http://{listens[1]}"
        with suppress(OSError, HTTPException):
            url = f"{self._url}/-/ready"
            with urlopen(url, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 - our own address
                return bool(answer.status == 200)
        return False

    def _has_scraped(self) -> bool:
        # It looks for targets each five seconds. Until then an alert on what is absent would fire.
        targets = self._ask("targets", {"state": "active"})["activeTargets"]
        scraped = [one for one in targets if not one["lastScrape"].startswith("0001-")]
        return len(scraped) == len(set(self._targets))

    def _last_words(self) -> str:
        log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        lines = log.strip().splitlines()
        told = [line for line in lines if "level=error" in line.lower()]
        return (told or lines or ["it said nothing"])[0]

    def _stop(self) -> None:
        process, self._process = self._process, None
        guard, self._guard = self._guard, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if guard is not None:
            # Last: until Prometheus has ended it must watch, and after that it must not.
            guard.communicate(b"\n")
        shutil.rmtree(self._folder, ignore_errors=True)
