"""An evaluation that never took place, with everything that its page can show."""

from __future__ import annotations

import math
from typing import Any

from trainer.details import LabelsPoint, MethodDetails, ReliabilityBin, WrongTemplate

#: Mean F1 by method; the other figures are made from it.
F1 = {
    "keyword": 0.203,
    "memory": 0.478,
    "neighbour": 0.491,
    "logistic": 0.503,
    "maml_lstm": 0.561,
    "crosyslog": 0.602,
}

#: Text as a log may hold it: markup, a terminal's escapes, an override of direction, NUL.
HOSTILE = (
    "<script>alert(1)</script></details></table>[/red]\x1b[31m\u202edesrever\x00"
    "<img src='https://example.org/x.png'>{{ 7 * 7 }}\ud800"
)


def figures(f1: float) -> dict[str, Any]:
    """The figures of a method, none of which is another's."""
    return {
        "f1": {"mean": f1, "low": round(f1 * 0.83, 6), "high": round(min(f1 * 1.11, 1), 6)},
        "pooled_f1": round(f1 * 0.97 + 0.0101, 6),
        "precision": round(f1 * 0.9 + 0.0202, 6),
        "recall": round(f1 * 1.1 + 0.0303, 6),
        "auprc": round(f1 * 1.05 + 0.0404, 6),
        "unseen_recall": round(f1 * 0.7 + 0.0505, 6),
        "false_alerts_per_10k": round(400 * (1 - f1), 1),
        "f1_by_task": [f1] * 6,
    }


def content(file: str = "thunderbird-reconstructed.log.gz", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """What an evaluation reports; `more` adds to it or takes its place."""
    return {
        "target": "thunderbird",
        "file": file,
        "lines": 1_234_567,
        "alerts": 43_210,
        "templates": 9876,
        "base": "bgl-liberty",
        "base_version": "1",
        "sources": ["bgl", "liberty"],
        "protocol": "honest",
        "support": {"kind": "contiguous", "size": 1000},
        "query": 10_000,
        "tasks": 60,
        "tasks_wanted": 60,
        "seeds": 3,
        "seed_list": [0, 1, 2],
        "interval": {
            "level": 0.95,
            "method": "percentile bootstrap over non-overlapping blocks of the stream",
            "block_lines": 11_000,
            "blocks": 12,
        },
        "methods": {name: figures(f1) for name, f1 in F1.items()},
        "skipped": {
            "positions": 2718,
            "support_with_few_alerts": 2500,
            "query_with_many_alerts": 218,
            "judged": 15,
            "methods": {
                name: {"false_alerts_per_10k": round(50 * f1 + 0.7, 1)} for name, f1 in F1.items()
            },
        },
        "positions": [],
    } | more


def wrong(template: str, lines: int, *, example: str | None = None) -> WrongTemplate:
    """A template that was judged wrong."""
    return WrongTemplate(template, lines, tasks=3, seen=lines % 2 == 0, example=example)


def details(f1: float, *, probabilities: bool = True) -> MethodDetails:
    """Everything of a method, with hostile text among it."""
    recall = [step / 100 for step in range(1, 101)]
    return MethodDetails(
        recall=recall,
        precision=[max(0.03, 1 - share ** (4 * f1) * (1.05 - f1 * 0.6)) for share in recall],
        by_labels=[
            LabelsPoint(labels, mean, mean * 0.85, min(1.0, mean * 1.12))
            for labels in (10, 30, 100, 300, 1000)
            for mean in [f1 * math.log10(labels) / 3]
        ],
        reliability=[
            ReliabilityBin(score / 10 + 0.05, min(1.0, f1 * score / 9), 10 ** (6 - score // 2))
            for score in range(10)
        ]
        if probabilities
        else [],
        misses=[
            wrong("kernel: mptscsih: ioc0: attempting task abort! (sc=<hex>)", 812),
            wrong(HOSTILE, 31, example="-" + HOSTILE),
        ],
        false_alerts=[
            wrong(
                "pbs_mom: Bad file descriptor (9) in tm_request, job <num> not running",
                1044,
                example="- 1131566461 2005.11.09 dn228 Nov 9 12:01:01 dn228/dn228 pbs_mom: Bad "
                "file descriptor (9) in tm_request, job 118221.tbird-admin1 not running",
            )
        ],
        seconds=round(100 * f1, 1),
    )


def all_details() -> dict[str, MethodDetails]:
    """Of all methods; the scores of two of them are no probabilities."""
    return {
        name: details(f1, probabilities=name not in {"keyword", "memory"})
        for name, f1 in F1.items()
    }
