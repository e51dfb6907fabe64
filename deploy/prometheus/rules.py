"""The rules file as data: recording rules and alerts.

Why an alert has the figures that it has is said in `timing.py` and `limits.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from deploy.prometheus.limits import Limits
from deploy.prometheus.recording import (
    ANOMALIES,
    ANOMALIES_AT_ALL,
    ANOMALY_SHARE,
    CACHE_MISSES,
    CACHE_MISSES_A_LINE,
    LAG,
    LAG_OF_AGENT,
    NOVEL,
    READY,
    RECEIVED,
    SCORED,
    by_topic,
    recording_rules,
)
from deploy.prometheus.scraping import JOB
from deploy.prometheus.timing import Timing, duration

AGENT_DOWN: Final = "CrosyslogAgentDown"
AGENT_RESTARTS: Final = "CrosyslogAgentRestarts"
NOT_READY: Final = "CrosyslogNotReady"
LAG_GROWING: Final = "CrosyslogLagGrowing"
NO_LINES: Final = "CrosyslogNoLines"
DEAD_LETTERS: Final = "CrosyslogDeadLetters"
TRANSACTION_ABORTS: Final = "CrosyslogTransactionAborts"
ANOMALY_STORM: Final = "CrosyslogAnomalyStorm"
ANOMALY_SILENCE: Final = "CrosyslogAnomalySilence"
DRIFT: Final = "CrosyslogDrift"
MODEL_RELOAD_FAILED: Final = "CrosyslogModelReloadFailed"
CACHE_COLLAPSED: Final = "CrosyslogCacheCollapsed"

#: The names of all alerts. Some have several rules, which differ in their severity.
ALERTS: Final = (
    AGENT_DOWN,
    AGENT_RESTARTS,
    NOT_READY,
    LAG_GROWING,
    NO_LINES,
    DEAD_LETTERS,
    TRANSACTION_ABORTS,
    ANOMALY_STORM,
    ANOMALY_SILENCE,
    DRIFT,
    MODEL_RELOAD_FAILED,
    CACHE_COLLAPSED,
)

#: Somebody is called: lines are not judged. A warning is looked at in the daytime.
_CRITICAL, _WARNING = "critical", "warning"

#: Where the pages of the alerts are, unless the generator is told another address.
RUNBOOKS: Final = "docs/runbooks/"


@dataclass(frozen=True)
class _Alert:
    name: str
    severity: str
    expr: str
    summary: str
    description: str
    wait: float = 0.0

    def rule(self, runbooks: str) -> dict[str, Any]:
        return {
            "alert": self.name,
            "expr": self.expr,
            **({"for": duration(self.wait)} if self.wait else {}),
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{runbooks}{page(self.name)}",
            },
        }


def page(alert: str) -> str:
    """The file of an alert's runbook: `agent-down.md`."""
    words = re.findall(r"[A-Z][a-z]*", alert.removeprefix("Crosyslog"))
    return "-".join(word.lower() for word in words) + ".md"


def build(
    timing: Timing = Timing(),  # noqa: B008 - frozen
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    job: str = JOB,
    runbooks: str = RUNBOOKS,
) -> dict[str, Any]:
    """The rules file.

    Args:
        timing: all windows and waiting times.
        limits: the figures that alerts compare with.
        job: what the agents are called in Prometheus; only an agent that never came up needs it,
            for the others are known by what they told.
        runbooks: comes before the page's name in `runbook_url`.
    """
    alerts = (
        *_agent_down(timing, job),
        _agent_restarts(timing, limits),
        *_not_ready(timing, limits),
        _lag_growing(timing),
        _no_lines(timing),
        _dead_letters(timing, limits),
        _transaction_aborts(timing, limits),
        _anomaly_storm(timing, limits),
        _anomaly_silence(timing, limits),
        _drift(timing, limits),
        _model_reload_failed(timing),
        _cache_collapsed(timing, limits),
    )
    return {
        "groups": [
            {"name": "crosyslog-recording", "rules": recording_rules(timing)},
            {"name": "crosyslog-alerts", "rules": [alert.rule(runbooks) for alert in alerts]},
        ]
    }


def _agent_down(timing: Timing, job: str) -> tuple[_Alert, ...]:
    forgotten = duration(timing.forgotten)
    told = f"last_over_time(crosyslog_agent_info[{forgotten}])"
    of_job = f'up{{job="{job}"}}'
    # Those of the job, which may never have come up, and what was an agent under other names. By
    # instance, for such a job may hold more than agents.
    up = f"({of_job} or up and on (job, instance) {told})"
    none_is_up = f"max by (job) ({up}) == 0"
    return (
        _Alert(
            AGENT_DOWN,
            _CRITICAL,
            # None of the job; or, where agents of several topics share it, none of one topic: a
            # scrape that fails ends the series of what an agent reads at once.
            f"(count by (job) ({up}) and on (job) {none_is_up})\n"
            f"or 0 * absent({of_job})\n"
            f"or (\n  count by (job, topic) ({told})\n"
            "  unless on (job, topic) crosyslog_agent_info\n"
            f"  unless on (job) {none_is_up}\n  unless on (job) absent({of_job})\n)",
            "No agent {{ with $labels.topic }}reads {{ . }}{{ else }}of {{ $labels.job }} is up"
            "{{ end }}",
            "{{ if $labels.topic }}{{ $value }} agents read {{ $labels.topic }} within the last "
            f"{forgotten}, and none does now.{{{{ else }}}}"
            "Prometheus knows {{ $value }} agents of {{ $labels.job }}, and none answers.{{ end }} "
            "No line is judged.",
            timing.down_for,
        ),
        _Alert(
            AGENT_DOWN,
            _WARNING,
            f"{up} == 0\nand on (job) max by (job) ({up}) == 1",
            "The agent {{ $labels.instance }} is down",
            "Prometheus gets no answer from the agent {{ $labels.instance }} (up is "
            "{{ $value }}). Others of {{ $labels.job }} are up.",
            timing.down_for,
        ),
    )


def _agent_restarts(timing: Timing, limits: Limits) -> _Alert:
    window = duration(timing.restarts)
    starts = by_topic(
        f"changes(process_start_time_seconds[{window}])", "instance", within=timing.restarts
    )
    return _Alert(
        AGENT_RESTARTS,
        _WARNING,
        f"{starts}\n> {limits.restarts:g}",
        "The agent {{ $labels.instance }} of {{ $labels.topic }} restarts again and again",
        "The agent {{ $labels.instance }} of {{ $labels.topic }} has started anew {{ $value }} "
        f"times in the last {window}.",
    )


def _not_ready(timing: Timing, limits: Limits) -> tuple[_Alert, ...]:
    window = duration(timing.ready)
    best = f"max by (job, topic) ({READY})"
    return (
        _Alert(
            NOT_READY,
            _CRITICAL,
            f"{best} < {limits.ready_share}",
            "No agent of {{ $labels.topic }} is ready",
            "The best of the agents that read {{ $labels.topic }} was ready "
            f"{{{{ $value | humanizePercentage }}}} of the last {window}.",
            timing.ready_for,
        ),
        _Alert(
            NOT_READY,
            _WARNING,
            f"{READY} < {limits.ready_share}\nand on (job, topic) {best} >= {limits.ready_share}",
            "The agent {{ $labels.instance }} of {{ $labels.topic }} is not ready",
            "The agent {{ $labels.instance }} was ready {{ $value | humanizePercentage }} of the "
            f"last {window}. Others of {{{{ $labels.topic }}}} are.",
            timing.ready_for,
        ),
    )


def _lag_growing(timing: Timing) -> _Alert:
    window = duration(timing.lag)
    return _Alert(
        LAG_GROWING,
        _CRITICAL,
        # The last one, for a topic's only agent tells none while it restarts.
        f"last_over_time({LAG}[{window}]) > {timing.lag_behind:g} * {RECEIVED}\n"
        f"and predict_linear({LAG}[{window}], {timing.lag_horizon:g}) > 0",
        "{{ $labels.topic }} falls behind",
        "{{ $value | humanize }} lines of {{ $labels.topic }} wait, more than "
        f"{duration(timing.lag_behind)} of reading, and the trend of the last "
        f"{window} does not catch up within {duration(timing.lag_horizon)}.",
        timing.lag_for,
    )


def _no_lines(timing: Timing) -> _Alert:
    rate, moves = duration(timing.rate), duration(timing.moves)
    return _Alert(
        NO_LINES,
        _CRITICAL,
        # By agent: of several, one may be stuck. Lines arrive, some wait all the time, none is
        # read; an agent that says itself that it is not ready has an alert of its own.
        f"{LAG_OF_AGENT} > min_over_time({LAG_OF_AGENT}[{moves}])\n"
        f"and min_over_time({LAG_OF_AGENT}[{rate}]) > 0\n"
        f"and on (job, instance) rate(crosyslog_lines_received_total[{rate}]) == 0\n"
        "unless on (job, instance) crosyslog_ready == 0",
        "The agent {{ $labels.instance }} reads nothing of {{ $labels.topic }}",
        "{{ $value | humanize }} lines of {{ $labels.topic }} wait for the agent "
        "{{ $labels.instance }}, more arrive, it calls itself ready, and has read none for "
        f"{rate}.",
        timing.no_lines_for,
    )


def _dead_letters(timing: Timing, limits: Limits) -> _Alert:
    within = timing.dead_letters
    window = duration(within)
    letters = by_topic(f"increase(crosyslog_dead_letters_total[{window}])", "reason", within=within)
    lines = by_topic(f"increase(crosyslog_lines_received_total[{window}])", within=within)
    return _Alert(
        DEAD_LETTERS,
        _WARNING,
        f"{letters} >= {limits.dead_letters}\n"
        f"and\n{letters}\n> on (job, topic) group_left ()\n{limits.dead_letter_share} * {lines}",
        "Lines of {{ $labels.topic }} cannot be judged: {{ $labels.reason }}",
        "{{ $value | humanize }} lines of {{ $labels.topic }} became dead letters in the last "
        f"{window}, with the reason {{{{ $labels.reason }}}}.",
    )


def _transaction_aborts(timing: Timing, limits: Limits) -> _Alert:
    rate = duration(timing.rate)
    # Fenced ones are left out: each partition that changes hands has one.
    aborted, ended = (
        by_topic(f"rate(crosyslog_transactions_total{{result{one}}}[{rate}])", within=timing.rate)
        for one in ('="aborted"', '=~"aborted|committed"')
    )
    return _Alert(
        TRANSACTION_ABORTS,
        _WARNING,
        f"{aborted}\n/\n{ended}\n> {limits.aborted_share}",
        "Transactions of {{ $labels.topic }} are aborted",
        "{{ $value | humanizePercentage }} of the transactions of {{ $labels.topic }} in the last "
        f"{rate} were aborted and tried again. Events come late, none is lost.",
        timing.aborts_for,
    )


def _anomaly_storm(timing: Timing, limits: Limits) -> _Alert:
    width = duration(timing.season_width)
    # The same time of day, in the middle of the window.
    ago = duration(timing.season - timing.season_width / 2)
    return _Alert(
        ANOMALY_STORM,
        _WARNING,
        f"{ANOMALIES} > {limits.storm_rate}\n"
        f"and {ANOMALIES} > {limits.storm_factor} * {_past(ANOMALIES, timing)}\n"
        f"and {ANOMALY_SHARE} > {limits.storm_share_factor}"
        f" * {_past(ANOMALIES, timing)} / {_past(SCORED, timing)}\n"
        f"and {_has_past(ANOMALIES, timing)}\n"
        f"unless {ANOMALIES} <= {limits.storm_season_factor}"
        f" * max_over_time({ANOMALIES}[{width}] offset {ago})",
        "{{ $labels.topic }} has far more anomalies than usual",
        '{{ $value | printf "%.3g" }} anomalies a second in {{ $labels.topic }}, more than '
        f"{limits.storm_factor} times the average of the last {duration(timing.history)}, and a "
        f"share of the lines that is more than {limits.storm_share_factor} times what it was.",
        timing.storm_for,
    )


def _anomaly_silence(timing: Timing, limits: Limits) -> _Alert:
    history, silence = duration(timing.history), duration(timing.silence)
    return _Alert(
        ANOMALY_SILENCE,
        _WARNING,
        # First, for it is the figure that is shown: the usual rate.
        f"avg_over_time({ANOMALIES}[{history}] offset {silence})\n"
        f"and {ANOMALIES_AT_ALL} == 0\n"
        f"and avg_over_time({ANOMALIES_AT_ALL}[{history}] offset {silence}) >= {limits.usual}\n"
        f"and avg_over_time({SCORED}[{silence}]) >= {limits.silence_flow}"
        f" * avg_over_time({SCORED}[{history}] offset {silence})\n"
        f"and {_has_past(ANOMALIES, timing)}",
        "{{ $labels.topic }} has had no anomaly for long",
        "No anomaly in {{ $labels.topic }} for "
        f'{silence}, though lines flow and {{{{ $value | printf "%.3g" }}}} a second were the '
        f"average of the {history} before.",
        timing.silence_for,
    )


def _drift(timing: Timing, limits: Limits) -> _Alert:
    window = duration(timing.drift)
    share = f"sum_over_time({NOVEL}[{window}]) / sum_over_time({SCORED}[{window}])"
    past = f"{_past(NOVEL, timing)} / {_past(SCORED, timing)}"
    return _Alert(
        DRIFT,
        _WARNING,
        # Weighted by lines: what three lines of a quiet night were does not count as a day's.
        f"{share} > {limits.drift_share}\n"
        f"and {share} > {limits.drift_factor} * {past}\n"
        f"and avg_over_time({SCORED}[{window}]) > {limits.drift_lines / timing.drift:.6g}\n"
        f"and {_has_past(SCORED, timing)}",
        "{{ $labels.topic }} has become unlike what its model knows",
        "{{ $value | humanizePercentage }} of the lines of {{ $labels.topic }} in the last "
        f"{window} are unlike all that the model was adapted on, more than {limits.drift_factor} "
        f"times the share of the last {duration(timing.history)}.",
        timing.drift_for,
    )


def _model_reload_failed(timing: Timing) -> _Alert:
    window = duration(timing.reload)
    refused = f'increase(crosyslog_model_reloads_total{{result="refused"}}[{window}])'
    return _Alert(
        MODEL_RELOAD_FAILED,
        _WARNING,
        f"{by_topic(f'({refused} > bool 0)', within=timing.reload)}\n> 0",
        "A new model for {{ $labels.topic }} was refused",
        "{{ $value }} agents of {{ $labels.topic }} refused a version of the model in the last "
        f"{window}, and keep the one that they had.",
    )


def _cache_collapsed(timing: Timing, limits: Limits) -> _Alert:
    past = f"{_past(CACHE_MISSES, timing)} / {_past(RECEIVED, timing)}"
    return _Alert(
        CACHE_COLLAPSED,
        _WARNING,
        f"{CACHE_MISSES_A_LINE} > {limits.cache_misses}\n"
        f"and {CACHE_MISSES_A_LINE} > {limits.cache_factor} * {past}\n"
        f"and {RECEIVED} > {limits.cache_lines}\n"
        f"and {_has_past(RECEIVED, timing)}",
        "The cache no longer holds what {{ $labels.topic }} needs",
        "For {{ $value | humanizePercentage }} of the lines of {{ $labels.topic }} a template is "
        f"encoded, more than {limits.cache_factor} times the share of the last "
        f"{duration(timing.history)}. The encoder sets the pace.",
        timing.cache_for,
    )


def _past(rate: str, timing: Timing) -> str:
    """A recorded rate's average over the past, without the latest part of it."""
    return f"avg_over_time({rate}[{duration(timing.history)}] offset {duration(timing.recent)})"


def _has_past(rate: str, timing: Timing) -> str:
    """Whether a recorded rate was there long enough ago for a comparison to mean something."""
    window = duration(timing.history - timing.history_min)
    return f"present_over_time({rate}[{window}] offset {duration(timing.history_min)})"
