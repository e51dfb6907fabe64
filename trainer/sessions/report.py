"""What an evaluation of sessions found, as JSON and as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.report import figures_of, rounded
from trainer.sessions.baselines import BASELINES
from trainer.sessions.evaluation import OURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.sessions.evaluation import SessionEvaluation, SessionResult
    from trainer.sessions.training import SessionConfig

#: Columns of the table: what they are called and where the JSON has them.
_COLUMNS = (
    ("precision", "precision"),
    ("recall", "recall"),
    ("AUPRC", "auprc"),
    ("unseen recall", "unseen_recall"),
)


@dataclass(frozen=True)
class SessionReport:
    """An evaluation with all that its report says.

    Attributes:
        evaluation: what was judged.
        files: the names of the target's log.
        rule: which of its lines make a session, as a command line says it.
        share: of the anomalous sessions to learn from, how many have a label.
        normal_share: of the normal ones.
        seeds: of the tasks.
        config: of the training.
        word_vectors: the name of the file of the vectors of words; none where there is none.
        results: of each method.
    """

    evaluation: SessionEvaluation
    files: Sequence[str]
    rule: str
    share: float
    normal_share: float
    seeds: Sequence[int]
    config: SessionConfig
    word_vectors: str | None
    results: dict[str, SessionResult]

    def content(self) -> dict[str, Any]:
        """What `evaluation.json` holds: as of lines, with sessions in their place.

        No time, path or machine is in it: the same seeds on the same machine give the same bytes.
        """
        evaluation = self.evaluation
        target, parts = evaluation.target, evaluation.parts
        anomalous, normal = evaluation.kinds
        return {
            "target": target.name,
            "file": ", ".join(self.files),
            "unit": "session",
            "sessions_by": self.rule,
            "sessions": len(target),
            "anomalous": int((target.labels == 1).sum()),
            "templates": len(target.texts),
            "base": None,
            "detector": OURS,
            "sources": [source.name for source in evaluation.sources],
            "protocol": "honest",
            "support": {
                "kind": "share" if self.share else "none",
                "size": evaluation.labels_given,
                "anomalous": anomalous,
                "share": self.share,
                "normal_size": evaluation.normal_given,
                "normal": normal,
                "normal_share": self.normal_share if self.share else 0.0,
                "of": len(parts.learnt),
            },
            "chosen_on": len(evaluation.chosen_on) if self.share else 0,
            "query": len(evaluation.judged),
            "query_anomalous": int(evaluation.truth.sum()),
            "tasks": len(self.seeds),
            "seeds": len(self.seeds),
            "seed_list": list(self.seeds),
            "interval": {"level": 0.95, "method": "Student's t over seeds"},
            "settings": self.config.model_dump(exclude={"seed"}),
            "word_vectors": self.word_vectors,
            "methods": {name: self._figures(result) for name, result in self.results.items()},
            "left_out": [name for name, (_, labels) in BASELINES.items() if labels]
            if not self.share
            else [],
        }

    def _figures(self, result: SessionResult) -> dict[str, Any]:
        f1 = interval([counts.f1 for counts in result.counts])
        figures = figures_of(result.counts, result.average_precisions, f1)
        if result.best_on_judged:
            figures["f1_of_best_state_on_judged"] = interval(result.best_on_judged)
        return figures


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean of values of seeds from 0 to 1, and its 95 % interval; one value has none, 0 to 1."""
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": rounded(mean), "low": 0.0, "high": 1.0}
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(t.ppf(0.975, len(values) - 1)) * spread
    return {
        "mean": rounded(mean),
        "low": rounded(max(mean - half, 0.0)),
        "high": rounded(min(mean + half, 1.0)),
    }


def show_sessions(content: dict[str, Any], results: dict[str, SessionResult]) -> None:
    """Writes the table of an evaluation to standard output.

    Args:
        content: what `SessionReport.content` returns.
        results: for what took how long.
    """
    from trainer.screen import count_of, say, say_table

    support = content["support"]
    say(
        f"{content['target']}: {content['file']}, {content['sessions']:,} sessions by "
        f"{content['sessions_by']}, {content['anomalous']:,} of them anomalous, "
        f"{content['templates']:,} groups of templates"
    )
    if left_out := content["left_out"]:
        say(f"{', '.join(left_out)} needs labels, and is left out")
    read = content["word_vectors"]
    say(
        f"trained on {', '.join(content['sources'])}; {count_of(content['seeds'], 'seed')}"
        + (f"; vectors of words from {read}" if read else "")
    )
    if support["kind"] == "none":
        say(f"no label of the target is used; the last {content['query']:,} sessions are judged")
    else:
        say(
            f"{count_of(support['size'], 'label')} of anomalous sessions and "
            f"{support['normal_size']:,} of normal ones among the first {support['of']:,}; "
            f"{content['chosen_on']:,} sessions after them choose, the "
            f"{content['query']:,} after those are judged, {content['query_anomalous']:,} of them "
            "anomalous"
        )
    say("")
    say_table(
        [
            "method", "F1", "95 %", *(title for title, _ in _COLUMNS), "false alerts/10k",
            "F1 of best state on judged", "learnt in", "sessions/s",
        ],
        [
            [
                name,
                f"{figures['f1']['mean']:.3f}",
                _ends(figures["f1"]) if content["seeds"] > 1 else "-",
                *(f"{figures[key]:.3f}" for _, key in _COLUMNS),
                f"{figures['false_alerts_per_10k']:.1f}",
                _best(figures, content["seeds"]),
                f"{results[name].seconds / content['seeds']:.1f} s",
                _speed(results[name]),
            ]
            for name, figures in content["methods"].items()
        ],
    )  # fmt: skip
    say("")
    say(
        "F1 and AUPRC are means over seeds, the rest is pooled over them; unseen recall is that of "
        "anomalous sessions with a template that none to learn from holds. The F1 of the best "
        "state on the judged part is chosen by the labels that are judged, as the published code "
        "does: it is no result."
    )


def _best(figures: dict[str, Any], seeds: int) -> str:
    best = figures.get("f1_of_best_state_on_judged")
    if best is None:
        return "-"
    return f"{best['mean']:.3f}" + (f" ({_ends(best)})" if seeds > 1 else "")


def _ends(figures: dict[str, float]) -> str:
    return f"{figures['low']:.3f}-{figures['high']:.3f}"


def _speed(result: SessionResult) -> str:
    return "-" if result.per_second is None else f"{result.per_second:,.0f}"
