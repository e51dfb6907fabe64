"""Unit tests of the alerts on agents: those that fire, and the near misses."""

from __future__ import annotations

from deploy.prometheus.rules import (
    AGENT_DOWN,
    AGENT_RESTARTS,
    NOT_READY,
)
from deploy.prometheus.scraping import JOB
from deploy.prometheus.simulated import (
    AGENT,
    FAULTS,
    METRICS,
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

_OF_JOB = {"job": JOB}
_OF_TOPIC = {"job": JOB, "topic": TOPIC}
_OF_AGENT = {"job": JOB, "instance": AGENT, "topic": TOPIC}
_OF_OTHER = {"job": JOB, "instance": OTHER, "topic": TOPIC}


def _gone(minutes: int, **left: str) -> dict[str, str | None]:
    """All series of an agent that answers no more after so many minutes, but for what is left."""
    ended: dict[str, str | None] = {
        key: counter((minutes, 60)) + " stale"
        for key in METRICS.keys() - {"info", "ready", "start", "lag", *FAULTS}
    }
    ended |= dict.fromkeys(FAULTS, level((minutes, 0)) + " stale")
    ended |= dict.fromkeys(("info", "ready", "start"), level((minutes, 1)) + " stale")
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
        "all agents of a second job are down",
        agent(30)
        + agent(
            30,
            _gone(10, up=level((10, 1), (21, 0))),
            job="release-b",
            instance=OTHER,
            topic="bgl",
        ),
        {
            12: [],
            20: [
                Fired(
                    AGENT_DOWN,
                    "critical",
                    {"job": "release-b"},
                    "No agent of release-b is up",
                    "Prometheus knows 1 agents of release-b, and none answers. No line is judged.",
                )
            ],
        },
    ),
    Case(
        "all agents of a second job were taken away",
        agent(30)
        + agent(
            30,
            _gone(10, up=level((10, 1)) + " stale"),
            job="release-b",
            instance=OTHER,
            topic="bgl",
        ),
        {
            20: [
                Fired(
                    AGENT_DOWN,
                    "critical",
                    {"job": "release-b", "topic": "bgl"},
                    "No agent reads bgl",
                    "1 agents read bgl within the last 1d, and none does now. No line is judged.",
                )
            ],
        },
    ),
    Case(
        "another job is down, and in a second one what is no agent",
        [
            *agent(30, job="release-b", instance=OTHER, topic="bgl"),
            *agent(30),
            {"series": 'up{job="node",instance="node-1:9100"}', "values": level((31, 0))},
            {"series": 'up{job="release-b",instance="node-1:9100"}', "values": level((31, 0))},
        ],
        silent_at(5, 20, 30),
    ),
    Case(
        "an agent is away for two minutes, restarts, and counts from 0",
        agent(
            40,
            up=level((10, 1), (2, 0), (29, 1)),
            info=level((10, 1), (2, None), (29, 1)),
            start=level((10, 1), (2, None), (29, 2)),
            ready=level((10, 1), (2, None), (1, 0), (28, 1)),
            received=f"{counter((9, 6000))} _x2 0+6000x28",
            scored=f"{counter((9, 6000))} _x2 0+6000x28",
        ),
        silent_at(11, 12, 13, 14, 15, 20, 30, 40),
    ),
)


def restarted(times: int) -> Fired:
    """What fires for an agent that restarts too often."""
    return Fired(
        AGENT_RESTARTS,
        "warning",
        _OF_AGENT,
        "The agent agent-1:9464 of web-logs restarts again and again",
        f"The agent agent-1:9464 of web-logs has started anew {times} times in the last 1h.",
    )


_RESTARTS = (
    Case(
        "an agent dies every five minutes, and keeps up all the same",
        dying(5, 20, " ".join([f"{level((4, 20))} stale"] * 20)),
        {16: [], 22: [restarted(4)], 24: [restarted(4)], 80: [restarted(12)]},
    ),
    Case(
        "one update of two agents, the second by an agent with another address",
        agent(60, start=level((20, 1), (41, 1200)))
        + agent(60, _gone(21, up=level((21, 1)) + " stale"), instance=OTHER, partition=1)
        + agent(60, instance="agent-3:9464", partition=2),
        silent_at(19, 21, 22, 25, 30, 60),
    ),
    Case(
        "somebody tries settings: an agent starts three times in ten minutes",
        agent(90, start=level((20, 1), (5, 1200), (5, 1500), (61, 1800))),
        silent_at(25, 30, 35, 60, 90),
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

FAULTS_OF_AGENTS = (*_AGENT_DOWN, *_RESTARTS, *_NOT_READY)
