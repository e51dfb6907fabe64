"""Unit tests of the alerts on delivery and reloads: those that fire, and the near misses."""

from __future__ import annotations

from deploy.prometheus.rules import (
    DEAD_LETTERS,
    MODEL_RELOAD_FAILED,
    TRANSACTION_ABORTS,
)
from deploy.prometheus.scraping import JOB
from deploy.prometheus.simulated import (
    OTHER,
    TOPIC,
    Case,
    Fired,
    agent,
    counter,
    level,
    silent_at,
)

_OF_TOPIC = {"job": JOB, "topic": TOPIC}

_DEAD_LETTERS = (
    Case(
        "a producer sends messages without a value",
        agent(60, null=counter((20, 0), (40, 60))),
        {
            20: [],
            40: [
                Fired(
                    DEAD_LETTERS,
                    "warning",
                    {**_OF_TOPIC, "reason": "null"},
                    "Lines of web-logs cannot be judged: null",
                    "900 lines of web-logs became dead letters in the last 15m, with the reason "
                    "null.",
                )
            ],
        },
    ),
    Case(
        "no line at all can be judged",
        agent(
            60,
            received=counter((60, 10)),
            scored=level((61, 0)),
            oversized=counter((60, 10)),
            lag=level((61, 0)),
        ),
        {
            40: [
                Fired(
                    DEAD_LETTERS,
                    "warning",
                    {**_OF_TOPIC, "reason": "oversized"},
                    "Lines of web-logs cannot be judged: oversized",
                    "150 lines of web-logs became dead letters in the last 15m, with the reason "
                    "oversized.",
                )
            ]
        },
    ),
    Case(
        "eight broken lines on a slow topic",
        agent(
            60,
            received=counter((60, 10)),
            null=counter((20, 0), (1, 8), (39, 0)),
            lag=level((61, 0)),
        ),
        silent_at(21, 25, 30, 40),
    ),
    Case(
        "a broken line of ten thousand, all the time",
        agent(60, received=counter((60, 20_000)), null=counter((60, 2))),
        silent_at(20, 40, 60),
    ),
)

_ABORTS = (
    Case(
        "every fourth transaction is aborted",
        agent(60, aborted=counter((20, 0), (40, 20))),
        {
            25: [],
            40: [
                Fired(
                    TRANSACTION_ABORTS,
                    "warning",
                    _OF_TOPIC,
                    "Transactions of web-logs are aborted",
                    "25% of the transactions of web-logs in the last 5m were aborted and tried "
                    "again. Events come late, none is lost.",
                )
            ],
        },
    ),
    Case(
        "a broker restarts: all is aborted for two minutes",
        agent(
            60,
            committed=counter((20, 60), (2, 0), (38, 60)),
            aborted=counter((20, 0), (2, 30), (38, 0)),
        ),
        silent_at(21, 23, 25, 27, 29, 31, 33, 40),
    ),
    Case(
        "one transaction in sixty is aborted, all the time",
        agent(60, aborted=counter((60, 1))),
        silent_at(20, 40, 60),
    ),
    Case(
        "partitions change hands again and again, and old owners are fenced",
        agent(60, fenced=counter((60, 20))),
        silent_at(20, 40, 60),
    ),
    Case(
        "there are no transactions with at-least-once",
        agent(60, committed=level((61, 0))),
        silent_at(20, 40, 60),
    ),
)

_RELOADS = (
    Case(
        "two agents of three refuse a new version",
        agent(90, refused=counter((20, 0), (1, 1), (69, 0)))
        + agent(90, instance=OTHER, partition=1, refused=counter((20, 0), (1, 1), (69, 0)))
        + agent(90, instance="agent-3:9464", partition=2, taken=counter((20, 0), (1, 1), (69, 0))),
        {
            20: [],
            30: [
                Fired(
                    MODEL_RELOAD_FAILED,
                    "warning",
                    _OF_TOPIC,
                    "A new model for web-logs was refused",
                    "2 agents of web-logs refused a version of the model in the last 1h, and keep "
                    "the one that they had.",
                )
            ],
            # An hour later it has been told.
            85: [],
        },
    ),
    Case(
        "new versions are taken",
        agent(60, taken=counter((20, 0), (1, 1), (9, 0), (1, 1), (29, 0))),
        silent_at(21, 31, 60),
    ),
    Case(
        "an agent that once refused a version restarts",
        agent(120, refused=f"{level((20, 1))} {level((101, 0))}"),
        silent_at(19, 21, 60),
    ),
)

FAULTS_OF_DELIVERY = (*_DEAD_LETTERS, *_ABORTS, *_RELOADS)
