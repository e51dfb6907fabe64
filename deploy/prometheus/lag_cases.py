"""Unit tests of the alerts on the lag: those that fire, and the near misses."""

from __future__ import annotations

from deploy.prometheus.agent_cases import restarted
from deploy.prometheus.rules import LAG_GROWING, NO_LINES, NOT_READY
from deploy.prometheus.scraping import JOB
from deploy.prometheus.simulated import (
    AGENT,
    OTHER,
    TOPIC,
    Case,
    Fired,
    agent,
    counter,
    dying,
    level,
    silent_at,
)

_OF_TOPIC = {"job": JOB, "topic": TOPIC}
_OF_AGENT = {"job": JOB, "instance": AGENT, "topic": TOPIC}
_OF_OTHER = {"job": JOB, "instance": OTHER, "topic": TOPIC}


def _behind(lines: str) -> Fired:
    return Fired(
        LAG_GROWING,
        "critical",
        _OF_TOPIC,
        "web-logs falls behind",
        f"{lines} lines of web-logs wait, more than 1m of reading, and the trend of the "
        "last 5m does not catch up within 4h.",
    )


_LAG = (
    Case(
        "more lines come than can be read",
        agent(40, lag=f"{level((10, 20))} 1000+1000x30"),
        {
            25: [],
            40: [
                Fired(
                    LAG_GROWING,
                    "critical",
                    _OF_TOPIC,
                    "web-logs falls behind",
                    "31k lines of web-logs wait, more than 1m of reading, and the trend of the "
                    "last 5m does not catch up within 4h.",
                )
            ],
        },
    ),
    Case(
        "the only agent dies every ten minutes, and catches up less than comes",
        dying(10, 12, " ".join(f"{60_000 + 20_000 * life}+2000x8 stale" for life in range(12))),
        {
            10: [],
            28: [_behind("116k")],
            # The agent is away, and the last that it told holds.
            39: [_behind("136k")],
            118: [_behind("296k"), restarted(6)],
        },
    ),
    Case(
        "a lag that neither grows nor falls is not caught up either",
        agent(40, lag=level((10, 20), (31, 50_000))),
        {
            40: [
                Fired(
                    LAG_GROWING,
                    "critical",
                    _OF_TOPIC,
                    "web-logs falls behind",
                    "50k lines of web-logs wait, more than 1m of reading, and the trend of the "
                    "last 5m does not catch up within 4h.",
                )
            ]
        },
    ),
    Case(
        "a burst comes in for eight minutes and is caught up on in two hours",
        agent(60, lag=f"{level((10, 20))} 15000+15000x7 119000-1000x42"),
        silent_at(12, 15, 18, 20, 22, 25, 27, 30, 40, 60),
    ),
    Case(
        "a large backlog falls steadily, after hours without an agent",
        agent(60, lag="10000000-100000x60"),
        silent_at(10, 20, 40, 60),
    ),
    Case(
        "a lag of half a minute stays",
        agent(60, lag=level((61, 3000))),
        silent_at(20, 40, 60),
    ),
)

_NO_LINES = (
    Case(
        "the agent reads nothing, says that it is ready, and lines arrive",
        agent(
            50,
            received=counter((20, 6000), (30, 0)),
            scored=counter((20, 6000), (30, 0)),
            lag=f"{level((21, 20))} 6000+6000x29",
        ),
        {
            28: [],
            33: [
                Fired(
                    NO_LINES,
                    "critical",
                    _OF_AGENT,
                    "The agent agent-1:9464 reads nothing of web-logs",
                    "78k lines of web-logs wait for the agent agent-1:9464, more arrive, it "
                    "calls itself ready, and has read none for 5m.",
                )
            ],
        },
    ),
    Case(
        "one agent of two reads nothing, on a slow topic",
        agent(60, received=counter((60, 30)), scored=counter((60, 30)), lag=level((61, 0)))
        + agent(
            60,
            instance=OTHER,
            partition=1,
            received=counter((20, 30), (40, 0)),
            scored=counter((20, 30), (40, 0)),
            # A line in ten minutes.
            lag=level((21, 0), (10, 1), (10, 2), (20, 3)),
        ),
        {
            40: [
                Fired(
                    NO_LINES,
                    "critical",
                    _OF_OTHER,
                    "The agent agent-2:9464 reads nothing of web-logs",
                    "2 lines of web-logs wait for the agent agent-2:9464, more arrive, it "
                    "calls itself ready, and has read none for 5m.",
                )
            ]
        },
    ),
    Case(
        "a topic is quiet at night",
        agent(
            120,
            received=counter((20, 6000), (100, 0)),
            scored=counter((20, 6000), (100, 0)),
            anomalies=counter((20, 6), (100, 0)),
            lag=level((21, 20), (100, 0)),
        ),
        silent_at(30, 60, 120),
    ),
    Case(
        "nothing is read because the agent is not ready, which has an alert of its own",
        agent(
            50,
            ready=level((21, 1), (30, 0)),
            received=counter((20, 6000), (30, 0)),
            scored=counter((20, 6000), (30, 0)),
            lag=f"{level((21, 20))} 6000+6000x29",
        ),
        {
            33: [
                Fired(
                    NOT_READY,
                    "critical",
                    _OF_TOPIC,
                    "No agent of web-logs is ready",
                    "The best of the agents that read web-logs was ready 0% of the last 5m.",
                )
            ]
        },
    ),
)

FAULTS_OF_LAG = (*_LAG, *_NO_LINES)
