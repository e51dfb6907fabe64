"""What an evaluation found, as JSON and as tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crosyslog.errors import SettingError
from trainer.based_methods import PARTITIONS
from trainer.evaluation import ORACLE, split_results
from trainer.metrics import Counts, block_interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle
    from trainer.evaluation import MethodResult
    from trainer.protocol import Drawn, Plan
    from trainer.tasks import LabelledStream

#: The file that `--output` makes.
FILE = "evaluation.json"

#: Columns of the table: what they are called and where the JSON has them.
_COLUMNS = (
    ("pooled", "pooled_f1"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("AUPRC", "auprc"),
    ("unseen recall", "unseen_recall"),
)


#: The methods whose difference is given an interval of its own.
_OURS, _BASELINE = "crosyslog", "logreg"


@dataclass(frozen=True)
class Evaluation:
    """An evaluation with all that its report says.

    Attributes:
        stream: what was judged.
        log: the name of its file.
        base: what the methods that need one started from.
        plan: what tasks were drawn by.
        drawn: the tasks.
        results: of each method.
    """

    stream: LabelledStream
    log: str
    base: Bundle | None
    plan: Plan
    drawn: Drawn
    results: dict[str, MethodResult]

    def content(self) -> dict[str, Any]:
        """What `evaluation.json` holds.

        No time, path or machine is in it: the same seeds on the same machine give the same bytes.
        """
        plan, drawn = self.plan, self.drawn
        manifest = self.base.manifest if self.base else None
        blocks = self.blocks()
        results, by_host = split_results(self.results)
        content = {
            "target": self.stream.name,
            "file": self.log,
            "lines": len(self.stream),
            "alerts": int(self.stream.labels.sum()),
            "templates": len(self.stream.templates),
            "base": manifest.target if manifest else None,
            "base_version": manifest.version if manifest else None,
            "detector": manifest.detector.kind if manifest else None,
            "sources": list(manifest.sources) if manifest else [],
            "protocol": plan.protocol,
            "support": (
                {"kind": "contiguous", "size": plan.support}
                if plan.ask is None
                else {
                    "kind": "chosen",
                    "size": plan.ask,
                    "history": plan.history,
                    "at_once": plan.at_once,
                }
            ),
            "wrong_labels": plan.wrong_labels,
            "quiet_alerts": plan.quiet_alerts,
            "query": plan.query,
            "tasks": len(drawn.tasks),
            "tasks_wanted": plan.tasks * plan.seeds,
            "seeds": plan.seeds,
            "seed_list": list(range(plan.first_seed, plan.first_seed + plan.seeds)),
            "interval": {
                "level": 0.95,
                "method": "bootstrap over blocks of the stream, expanded percentiles",
                "block_lines": self._block_lines,
                "blocks": len(set(blocks.tolist())),
            },
            "methods": {name: self._figures(result, blocks) for name, result in results.items()},
            "skipped": {
                "positions": sum(drawn.passed_over.values()),
                **drawn.passed_over,
                "judged": len(drawn.outside),
                "methods": {
                    name: {"false_alerts_per_10k": rounded(result.outside.false_alerts_per_10k)}
                    for name, result in results.items()
                },
            },
            "positions": [
                {"seed": seed, plan.part: start, "query": start + plan.before}
                for seed, start in drawn.tasks
            ],
        }
        if {_OURS, _BASELINE} <= set(results):
            content["difference"] = self._difference(results[_OURS], results[_BASELINE], blocks)
        if by_host:
            content["by_host"] = {
                "partitions": PARTITIONS,
                "methods": {
                    name: self._figures(result, blocks) for name, result in by_host.items()
                },
            }
        return content

    @property
    def _block_lines(self) -> int:
        return self.plan.before + self.plan.query

    def blocks(self) -> NDArray[np.int64]:
        """Of each task, the block of the stream that it begins in."""
        starts = np.array([start for _, start in self.drawn.tasks], dtype=np.int64)
        return starts // self._block_lines

    def _figures(self, result: MethodResult, blocks: NDArray[np.int64]) -> dict[str, Any]:
        f1 = np.array([counts.f1 for counts in result.counts])
        low, high = block_interval(f1, blocks, seed=self.plan.first_seed)
        interval = {"mean": rounded(f1.mean()), "low": rounded(low), "high": rounded(high)}
        return figures_of(result.counts, result.average_precisions, interval)

    def _difference(
        self, ours: MethodResult, theirs: MethodResult, blocks: NDArray[np.int64]
    ) -> dict[str, Any]:
        """The mean over tasks of our F1 less that of the plain baseline, on the same task."""
        pairs = zip(ours.counts, theirs.counts, strict=True)
        difference = np.array([one.f1 - other.f1 for one, other in pairs])
        # An interval is for values from 0 to 1, and differences lie from -1 to 1.
        ends = block_interval((difference + 1) / 2, blocks, seed=self.plan.first_seed)
        low, high = (2 * end - 1 for end in ends)
        mean = rounded(difference.mean())
        return {
            "of": _OURS,
            "from": _BASELINE,
            "mean": mean,
            "low": rounded(low),
            "high": rounded(high),
        }


def figures_of(
    counts: Sequence[Counts], average_precisions: Sequence[float], f1: dict[str, float]
) -> dict[str, Any]:
    """The figures of a method, as JSON has them.

    Args:
        counts: of each task.
        average_precisions: of each task.
        f1: the mean over tasks, and its interval.
    """
    pooled = sum(counts, Counts())
    return {
        "f1": f1,
        "pooled_f1": rounded(pooled.f1),
        "precision": rounded(pooled.precision),
        "recall": rounded(pooled.recall),
        "auprc": rounded(np.mean(average_precisions)),
        "unseen_recall": rounded(pooled.unseen_recall),
        "false_alerts_per_10k": rounded(pooled.false_alerts_per_10k),
        "f1_by_task": [rounded(one.f1) for one in counts],
    }


def check_output(folder: Path) -> None:
    """Refuses a folder that holds something, before any work.

    Raises:
        SettingError: it does, or it is none.
    """
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise SettingError(f"--output {folder}: it cannot be read: {error.strerror}") from error
    if taken:
        raise SettingError(f"--output {folder} exists already: name a folder that is to be made")


def write_evaluation(content: dict[str, Any], folder: Path) -> None:
    """Writes `evaluation.json` into a folder, which is made.

    Raises:
        SettingError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingError(f"--output {folder}: it cannot be written: {error.strerror}") from error


def show_evaluation(content: dict[str, Any]) -> None:
    """Writes the tables of an evaluation to standard output."""
    from trainer.screen import say, say_table

    interval, skipped = content["interval"], content["skipped"]
    _show_setting(content)
    say("")
    _show_methods(content["methods"], blocks=interval["blocks"])
    if "by_host" in content:
        say("")
        parts = content["by_host"]["partitions"]
        say(f"The same lines as a stream that is split by host into {parts} partitions:")
        _show_methods(content["by_host"]["methods"], blocks=interval["blocks"])
    if difference := content.get("difference"):
        say("")
        say(
            f"F1 of {difference['of']} less that of {difference['from']}, task by task: "
            f"{difference['mean']:+.3f}"
            + (
                f" ({difference['low']:+.3f} to {difference['high']:+.3f})"
                if interval["blocks"] > 1
                else ""
            )
        )
    say("")
    if any(name.endswith(ORACLE) for name in content["methods"]):
        say(
            "An oracle step is chosen by the labels of the lines that are judged: it shows what "
            "the published protocol prints, and is no result."
        )
    say(
        "F1 and AUPRC are means of tasks, the rest is pooled over them; unseen recall is that of "
        "alerts whose template the support lacks."
    )
    if interval["blocks"] == 1:
        say("All tasks begin in one block of the stream: their spread is unknown.")
    else:
        say(f"The intervals come from {interval['blocks']} blocks of the stream.")
    if skipped["judged"]:
        reasons = ", ".join(
            f"{skipped[key]:,} {key.replace('_', ' ')}"
            for key in skipped
            if key not in {"positions", "judged", "methods"} and skipped[key]
        )
        say("")
        say(
            f"Beside them {skipped['positions']:,} drawn positions are no task ({reasons}); false "
            f"alerts per 10,000 normal lines on {skipped['judged']} of them:"
        )
        say_table(
            ["method", "false alerts/10k"],
            [
                [name, f"{figures['false_alerts_per_10k']:.1f}"]
                for name, figures in skipped["methods"].items()
            ],
        )


def _show_setting(content: dict[str, Any]) -> None:
    """What was judged, and how."""
    from trainer.screen import count_of, say

    support = content["support"]
    say(
        f"{content['target']}: {content['file']}, {content['lines']:,} lines, "
        f"{content['alerts']:,} of them alerts, {content['templates']:,} templates"
    )
    if content["base"] is not None:
        sources = ", ".join(content["sources"])
        say(f"base {content['base']} ({content['detector']}), trained on {sources}")
    learnt = f"{support['size']:,} labelled lines in a row"
    if support["kind"] == "chosen":
        learnt = (
            f"the labels of {support['size']:,} templates, chosen from {support['history']:,} lines"
        )
    if content["wrong_labels"]:
        learnt += f" ({content['wrong_labels']:.0%} of the labels wrong)"
    tasks, wanted = content["tasks"], content["tasks_wanted"]
    say(
        f"{content['protocol']} protocol, {count_of(tasks, 'task')} of "
        f"{count_of(content['seeds'], 'seed')}: "
        f"{learnt}, judged on the {content['query']:,} lines after them"
    )
    if tasks < wanted:
        say(f"{wanted:,} tasks were asked for: the log has no more positions that make one")
    if content["quiet_alerts"]:
        say("quiet alerts: the base's methods use a threshold above the support's normal lines")


def _show_methods(methods: dict[str, Any], *, blocks: int) -> None:
    from trainer.screen import say_table

    say_table(
        ["method", "F1", "95 %", *(title for title, _ in _COLUMNS), "false alerts/10k"],
        [
            [
                name,
                f"{figures['f1']['mean']:.3f}",
                f"{figures['f1']['low']:.3f}-{figures['f1']['high']:.3f}" if blocks > 1 else "-",
                *(f"{figures[key]:.3f}" for _, key in _COLUMNS),
                f"{figures['false_alerts_per_10k']:.1f}",
            ]
            for name, figures in methods.items()
        ],
    )


def rounded(value: float | np.floating[Any]) -> float:
    """Six digits: enough for any comparison, and no noise of the last bit in a file."""
    return round(float(value), 6)
