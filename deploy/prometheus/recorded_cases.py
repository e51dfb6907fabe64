"""Unit tests of recorded values."""

from __future__ import annotations

from deploy.prometheus.recording import (
    ANOMALIES,
    ANOMALY_SHARE,
    CACHE_HIT_SHARE,
    CACHE_MISSES_A_LINE,
    DEAD_LETTERS,
    LAG,
    LATENCY,
    NOVEL_SHARE,
    RECEIVED,
    SCORED,
)
from deploy.prometheus.simulated import OTHER, Case, agent, counter, level, silent_at

RECORDED = (
    Case(
        "two agents of a topic, and one of another",
        agent(30, null=counter((30, 6)))
        + agent(30, instance=OTHER, partition=1, lag=level((31, 30)), anomalies=counter((30, 54)))
        + agent(30, instance="agent-3:9464", topic="bgl"),
        silent_at(10),
        {
            f'{RECEIVED}{{topic="web-logs"}}': 200,
            f'{SCORED}{{topic="bgl"}}': 100,
            f'{ANOMALIES}{{topic="web-logs"}}': 1,
            f'{ANOMALY_SHARE}{{topic="web-logs"}}': 0.005,
            f'{NOVEL_SHARE}{{topic="web-logs"}}': 0.01,
            f'{CACHE_HIT_SHARE}{{topic="web-logs"}}': 0.9,
            f'{CACHE_MISSES_A_LINE}{{topic="web-logs"}}': 0.001,
            f'{LAG}{{topic="web-logs"}}': 50,
            f'{LATENCY}{{topic="web-logs"}}': 0.1,
            f'{DEAD_LETTERS}{{topic="web-logs",reason="null"}}': 0.1,
        },
    ),
    Case(
        "no lines: shares and latency are left out, and not NaN",
        agent(
            30,
            dict.fromkeys(
                (
                    *("received", "scored", "anomalies", "novel", "hits", "misses", "lag"),
                    *("fast", "slow", "any_latency"),
                ),
                level((31, 0)),
            ),
        ),
        silent_at(20),
        {
            SCORED: 0,
            f"absent({ANOMALY_SHARE})": 1,
            f"absent({NOVEL_SHARE})": 1,
            f"absent({CACHE_HIT_SHARE})": 1,
            f"absent({CACHE_MISSES_A_LINE})": 1,
            f"absent({LATENCY})": 1,
        },
    ),
    Case(
        "a partition changes hands, and both agents tell of it",
        agent(30, lag=level((31, 40))) + agent(30, instance=OTHER, lag=level((31, 30))),
        silent_at(20),
        {LAG: 40},
    ),
)
