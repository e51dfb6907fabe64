"""Unit tests of the alerts that compare with a topic's own past: a day of it, and more."""

from __future__ import annotations

from deploy.prometheus.rules import ANOMALY_SILENCE, ANOMALY_STORM, CACHE_COLLAPSED, DRIFT
from deploy.prometheus.scraping import JOB
from deploy.prometheus.simulated import TOPIC, Case, Fired, agent, counter, level, silent_at

_OF_TOPIC = {"job": JOB, "topic": TOPIC}

#: A little more than the day of past that an alert wants, in minutes, and what comes then.
_DAY, _PAST = 1440, 1500


_STORM = (
    Case(
        "anomalies come twenty times as often as yesterday",
        agent(_PAST + 60, anomalies=counter((_PAST, 6), (60, 120))),
        {
            _PAST: [],
            _PAST + 20: [
                Fired(
                    ANOMALY_STORM,
                    "warning",
                    _OF_TOPIC,
                    "web-logs has far more anomalies than usual",
                    "2 anomalies a second in web-logs, more than 5 times the average of the last "
                    "7d, and a share of the lines that is more than 2 times what it was.",
                )
            ],
        },
    ),
    Case(
        "a topic that never had an anomaly has many",
        agent(_PAST + 60, anomalies=counter((_PAST, 0), (60, 60))),
        {
            _PAST + 20: [
                Fired(
                    ANOMALY_STORM,
                    "warning",
                    _OF_TOPIC,
                    "web-logs has far more anomalies than usual",
                    "1 anomalies a second in web-logs, more than 5 times the average of the last "
                    "7d, and a share of the lines that is more than 2 times what it was.",
                )
            ]
        },
    ),
    Case(
        "as many anomalies, and no past to compare with",
        agent(180, anomalies=counter((120, 6), (60, 120))),
        silent_at(130, 150, 180),
    ),
    Case(
        "as many anomalies at the same time each day",
        agent(
            _PAST + 60,
            anomalies=counter((60, 6), (60, 120), (_DAY - 60, 6), (60, 120)),
        ),
        silent_at(_PAST + 20, _PAST + 40),
    ),
    Case(
        "twenty times as many lines, anomalous ones among them as always",
        agent(
            _PAST + 60,
            received=counter((_PAST, 6000), (60, 120_000)),
            scored=counter((_PAST, 6000), (60, 120_000)),
            anomalies=counter((_PAST, 6), (60, 120)),
        ),
        silent_at(_PAST + 20, _PAST + 40),
    ),
    Case(
        "twenty times as many anomalies, for six minutes",
        agent(_PAST + 60, anomalies=counter((_PAST, 6), (6, 120), (54, 6))),
        silent_at(_PAST + 5, _PAST + 10, _PAST + 15, _PAST + 20),
    ),
    Case(
        "four anomalies in five minutes where there never are any",
        agent(_PAST + 60, anomalies=counter((_PAST, 0), (60, 0.8))),
        silent_at(_PAST + 20, _PAST + 40),
    ),
)

# Lines from the start of each day on, for so many minutes; then none.
_OPEN, _DAYS = 840, 2


def _by_day(step: float, last: float) -> str:
    """A counter that grows while lines flow, on the last day by something else."""
    return counter(*((_OPEN, step), (_DAY - _OPEN, 0)) * _DAYS, (_OPEN, last))


# A day of past, then six hours and what the alert waits.
_QUIET = 480

_SILENCE = (
    Case(
        "a topic without lines at night has no anomaly on a whole day",
        agent(
            _DAYS * _DAY + _OPEN,
            received=_by_day(6000, 6000),
            scored=_by_day(6000, 6000),
            anomalies=_by_day(6, 0),
            novel=_by_day(60, 60),
            lag="0",
        ),
        {
            # Late in the night, and before lines have flowed for six hours.
            **silent_at(_DAYS * _DAY - 60, _DAYS * _DAY + 120, _DAYS * _DAY + 300),
            _DAYS * _DAY + 480: [
                Fired(
                    ANOMALY_SILENCE,
                    "warning",
                    _OF_TOPIC,
                    "web-logs has had no anomaly for long",
                    "No anomaly in web-logs for 6h, though lines flow and 0.056 a second were "
                    "the average of the 7d before.",
                )
            ],
        },
    ),
    Case(
        "a topic that has anomalies in each hour has none for seven",
        agent(_PAST + _QUIET, anomalies=counter((_PAST, 6), (_QUIET, 0))),
        {
            _PAST + 300: [],
            _PAST + 380: [],
            _PAST + 420: [
                Fired(
                    ANOMALY_SILENCE,
                    "warning",
                    _OF_TOPIC,
                    "web-logs has had no anomaly for long",
                    "No anomaly in web-logs for 6h, though lines flow and 0.0962 a second were "
                    "the average of the 7d before.",
                )
            ],
        },
    ),
    Case(
        "no anomalies, for there are hardly any lines",
        agent(
            _PAST + _QUIET,
            received=counter((_PAST, 6000), (_QUIET, 600)),
            scored=counter((_PAST, 6000), (_QUIET, 600)),
            anomalies=counter((_PAST, 6), (_QUIET, 0)),
            novel=counter((_PAST, 60), (_QUIET, 6)),
        ),
        silent_at(_PAST + 420, _PAST + 480),
    ),
    Case(
        "no anomaly for seven hours, five of which there was no agent",
        agent(
            _PAST + _QUIET,
            dict.fromkeys(("info", "ready"), f"{level((_PAST, 1))} _x300 {level((181, 1))}"),
            received=f"{counter((_PAST, 6000))} _x300 0+6000x180",
            scored=f"{counter((_PAST, 6000))} _x300 0+6000x180",
            novel=f"{counter((_PAST, 60))} _x300 0+60x180",
            anomalies=f"{counter((_PAST, 6))} _x300 {level((181, 0))}",
        ),
        silent_at(_PAST + 420, _PAST + 450),
    ),
    Case(
        "no anomalies, on a topic that has some once a day",
        agent(_PAST + _QUIET, anomalies=counter((600, 0), (10, 600), (_PAST + _QUIET - 610, 0))),
        silent_at(_PAST, _PAST + 420, _PAST + 480),
    ),
    Case(
        "one anomaly in five hours, where there were six a minute",
        agent(
            _PAST + _QUIET,
            anomalies=counter((_PAST, 6), (200, 0), (1, 1), (_QUIET - 201, 0)),
        ),
        silent_at(_PAST + 420, _PAST + 480),
    ),
)

_DRIFT = (
    Case(
        "after a release every fifth line is novel",
        agent(_PAST + 150, novel=counter((_PAST, 60), (150, 1200))),
        {
            _PAST + 20: [],
            _PAST + 120: [
                Fired(
                    DRIFT,
                    "warning",
                    _OF_TOPIC,
                    "web-logs has become unlike what its model knows",
                    "20% of the lines of web-logs in the last 1h are unlike all that the model "
                    "was adapted on, more than 3 times the share of the last 7d.",
                )
            ],
        },
    ),
    Case(
        "every fifth line has always been novel",
        agent(_PAST + 150, novel=counter((_PAST + 150, 1200))),
        silent_at(_PAST + 60, _PAST + 120),
    ),
    Case(
        "every fifth line is novel, and there is no past to compare with",
        agent(300, novel=counter((120, 60), (180, 1200))),
        silent_at(200, 300),
    ),
    Case(
        "every fifth of a few lines at night is novel",
        agent(
            _PAST + 150,
            received=counter((_PAST, 6000), (150, 10)),
            scored=counter((_PAST, 6000), (150, 10)),
            novel=counter((_PAST, 60), (150, 2)),
            lag="0",
        ),
        silent_at(_PAST + 90, _PAST + 120, _PAST + 150),
    ),
    Case(
        "a release logs new lines once, for ten minutes",
        agent(_PAST + 150, novel=counter((_PAST, 60), (10, 1200), (140, 60))),
        silent_at(_PAST + 15, _PAST + 60, _PAST + 120),
    ),
)

_CACHE = (
    Case(
        "every tenth line has a template of its own",
        agent(_PAST + 60, misses=counter((_PAST, 6), (60, 600))),
        {
            _PAST + 10: [],
            _PAST + 30: [
                Fired(
                    CACHE_COLLAPSED,
                    "warning",
                    _OF_TOPIC,
                    "The cache no longer holds what web-logs needs",
                    "For 10% of the lines of web-logs a template is encoded, more than 10 times "
                    "the share of the last 7d. The encoder sets the pace.",
                )
            ],
        },
    ),
    Case(
        "twenty times as many templates as usual, at one line in fifty",
        agent(_PAST + 60, misses=counter((_PAST, 6), (60, 120))),
        silent_at(_PAST + 30, _PAST + 60),
    ),
    Case(
        "a warm agent looks hardly anything up, and little of that is there",
        agent(_PAST + 60, hits=counter((_PAST, 54), (60, 0)), misses=counter((_PAST, 6), (60, 12))),
        silent_at(_PAST + 30, _PAST + 60),
    ),
    Case(
        "a release brings new templates once, for eight minutes",
        agent(_PAST + 60, misses=counter((_PAST, 6), (8, 1200), (52, 6))),
        silent_at(_PAST + 10, _PAST + 15, _PAST + 20, _PAST + 25),
    ),
    Case(
        "every tenth line is encoded, of ten lines a minute",
        agent(
            _PAST + 60,
            received=counter((_PAST, 6000), (60, 10)),
            scored=counter((_PAST, 6000), (60, 10)),
            misses=counter((_PAST, 6), (60, 1)),
            lag="0",
        ),
        silent_at(_PAST + 30, _PAST + 60),
    ),
    Case(
        "a new agent fills an empty cache, and there is no past to compare with",
        agent(60, misses=counter((60, 600))),
        silent_at(30, 60),
    ),
)

OF_THE_PAST = (*_STORM, *_SILENCE, *_DRIFT, *_CACHE)
