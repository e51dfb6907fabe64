"""Unit tests of the alerts on agents and their lag: those that fire, and the near misses."""

from __future__ import annotations

from deploy.prometheus.rules import (
    AGENT_DOWN,
    LAG_GROWING,
    NO_LINES,
    NOT_READY,
)
from deploy.prometheus.scraping import JOB
from deploy.prometheus.simulated import (
    AGENT,
    METRICS,
    OTHER,
    TOPIC,
    Case,
    Fired,
    agent,
    counter,
    level,
    silent_at,
)

_OF_JOB = {"job": JOB}
_OF_TOPIC = {"job": JOB, "topic": TOPIC}
_OF_AGENT = {"job": JOB, "instance": AGENT, "topic": TOPIC}
_OF_OTHER = {"job": JOB, "instance": OTHER, "topic": TOPIC}


def _gone(minutes: int, **left: str) -> dict[str, str | None]:
    """All series of an agent that answers no more after so many minutes, but for what is left."""
    ended: dict[str, str | None] = {
        key: counter((minutes, 60)) + " stale" for key in METRICS.keys() - {"info", "ready", "lag"}
    }
    ended |= dict.fromkeys(("info", "ready"), level((minutes, 1)) + " stale")
    return ended | {"lag": level((minutes, 20)) + " stale"} | left


_DOWN_JOB = Fired(
    AGENT_DOWN,
    "critical",
    _OF_JOB,
    "No agent of crosyslog-agent is up",
    "Prometheus knows 1 agents of crosyslog-agent, and none answers. No line is judged.",
)

_AGENT_DOWN = (
    Case("nothing is wrong", agent(60), silent_at(5, 20, 40, 60)),
    Case(
        "the only agent is down",
        agent(30, _gone(10, up=level((10, 1), (21, 0)))),
        {12: [], 14: [_DOWN_JOB], 30: [_DOWN_JOB]},
    ),
    Case(
        "Prometheus knows no agent",
        [],
        {
            10: [
                Fired(
                    AGENT_DOWN,
                    "critical",
                    _OF_JOB,
                    "No agent of crosyslog-agent is up",
                    "Prometheus knows 0 agents of crosyslog-agent, and none answers. "
                    "No line is judged.",
                )
            ]
        },
    ),
    Case(
        "one agent of two is down, the other has its partitions",
        agent(30)
        + agent(
            30,
            _gone(10, up=level((10, 1), (21, 0))),
            instance=OTHER,
        ),
        {
            20: [
                Fired(
                    AGENT_DOWN,
                    "warning",
                    {"job": JOB, "instance": OTHER},
                    "The agent agent-2:9464 is down",
                    "Prometheus gets no answer from the agent agent-2:9464 (up is 0). Others of "
                    "crosyslog-agent are up.",
                )
            ]
        },
    ),
    Case(
        "the only agent of a topic was taken away, that of another topic is up",
        agent(30)
        + agent(
            30,
            _gone(10, up=level((10, 1)) + " stale"),
            instance=OTHER,
            topic="bgl",
        ),
        {
            20: [
                Fired(
                    AGENT_DOWN,
                    "critical",
                    {"job": JOB, "topic": "bgl"},
                    "No agent reads bgl",
                    "1 agents read bgl within the last 1d, and none does now. No line is judged.",
                )
            ]
        },
    ),
    Case(
        "an agent is away for two minutes, restarts, and counts from 0",
        agent(
            40,
            up=level((10, 1), (2, 0), (29, 1)),
            info=level((10, 1), (2, None), (29, 1)),
            ready=level((10, 1), (2, None), (1, 0), (28, 1)),
            received=f"{counter((9, 6000))} _x2 0+6000x28",
            scored=f"{counter((9, 6000))} _x2 0+6000x28",
        ),
        silent_at(11, 12, 13, 14, 15, 20, 30, 40),
    ),
)

_NOT_READY = (
    Case(
        "the only agent stays not ready",
        agent(30, ready=level((10, 1), (21, 0))),
        {
            12: [],
            20: [
                Fired(
                    NOT_READY,
                    "critical",
                    _OF_TOPIC,
                    "No agent of web-logs is ready",
                    "The best of the agents that read web-logs was ready 0% of the last 5m.",
                )
            ],
        },
    ),
    Case(
        "one agent of two stays not ready",
        agent(30) + agent(30, instance=OTHER, partition=1, ready=level((10, 1), (21, 0))),
        {
            20: [
                Fired(
                    NOT_READY,
                    "warning",
                    _OF_OTHER,
                    "The agent agent-2:9464 of web-logs is not ready",
                    "The agent agent-2:9464 was ready 0% of the last 5m. Others of web-logs are.",
                )
            ]
        },
    ),
    Case(
        "an agent comes and goes, and is away most of the time",
        agent(30, ready=" ".join(["1 0 0"] * 10)),
        {
            20: [
                Fired(
                    NOT_READY,
                    "critical",
                    _OF_TOPIC,
                    "No agent of web-logs is ready",
                    "The best of the agents that read web-logs was ready 33.33% of the last 5m.",
                )
            ]
        },
    ),
    Case(
        "an agent starts for a minute, and loses its partitions for two later",
        agent(30, ready=level((2, 0), (10, 1), (2, 0), (17, 1))),
        silent_at(1, 2, 3, 4, 12, 13, 14, 15, 16, 20),
    ),
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

FAULTS_OF_AGENTS = (*_AGENT_DOWN, *_NOT_READY, *_LAG, *_NO_LINES)
