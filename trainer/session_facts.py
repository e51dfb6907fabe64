"""What commands show of a model that judges sessions; nothing is computed, and no torch is needed.

Lines of a support are sessions here, and its alerts are the anomalous ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crosyslog.manifest import Manifest, Threshold
    from crosyslog.session_rules import SessionRule


def rule_text(rule: SessionRule) -> str:
    """Which lines make a session, for people."""
    if rule.by == "count":
        return f"{rule.lines:,} lines in a row"
    if rule.by == "time":
        return f"the lines of {rule.seconds:,} seconds"
    return "the lines with the same key"


def threshold_text(threshold: Threshold) -> str:
    """From which score on a session is anomalous, and how that was chosen."""
    # As many digits as the score of a session has: near 0 and 1 the last ones tell.
    return f"{threshold.value:.7g}, {threshold.chosen}"


def learnt_facts(manifest: Manifest) -> list[tuple[str, str]]:
    """What a model of the store was made from, and what it reads of a line."""
    support = manifest.support
    shape = manifest.detector.model_dump()
    vectors = "words, weighted by TF-IDF" if shape["vectors"] == "words" else "whole groups"
    learnt = f"{support.lines:,} labelled sessions, {support.alerts:,} of them anomalous"
    groups = f"{support.templates:,} of templates, {support.alert_templates:,} mostly of anomalies"
    facts = [("learnt from", learnt), ("groups", groups), ("vectors", f"of {vectors}")]
    if manifest.sessions is not None:
        facts.append(("a session", rule_text(manifest.sessions)))
    return facts


def chosen_figures(manifest: Manifest) -> list[tuple[str, str]]:
    """How a model did on the labelled sessions that it was chosen by."""
    figures = manifest.figures
    if "chosen_f1" not in figures:
        return []
    said = (
        f"F1 {figures['chosen_f1']:.2f}, average precision "
        f"{figures['chosen_average_precision']:.2f}: it was chosen by these sessions"
    )
    return [("at its choice", said)]
