"""An evaluation of sessions as one HTML page that asks for nothing: no request, no script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.page_rendering import (
    check_page_tools,
    not_original,
    precision_recall_of,
    render,
    shown_methods,
    write_html,
)
from trainer.sessions.evaluation import OURS, PLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.sessions.inspection import SessionDetails


#: What the methods are, in a line.
_EXPLAINED = {
    OURS: "a GRU with attention over the groups of templates in a session, meta-trained on the "
    "sources and the target together",
    PLAIN: "the same network on the same sessions and labels, without the trial step",
    "count_logreg": "a logistic regression on how often a session holds each group",
    "count_clusters": "how far a session is from clusters of those to learn from, by these counts",
    "never_seen": "how many groups it holds that no session does which is known to be normal, or, "
    "where none is known to be, no session to learn from",
}


def write_session_page(
    content: dict[str, Any], details: Mapping[str, SessionDetails], folder: Path
) -> Path:
    """Writes `evaluation.html` into a folder, which is made; the same input gives the same bytes.

    Args:
        content: what `SessionReport.content()` returns.
        details: by method; one that is missing has no curve, no times and no wrong sessions.
        folder: that of `evaluation.json`.

    Returns:
        The file.

    Raises:
        ToolMissingError: what makes the page is not installed.
        SettingError: it cannot be written.
    """
    check_page_tools()
    return write_html(_render(content, details), folder)


def _render(content: dict[str, Any], details: Mapping[str, SessionDetails]) -> str:
    methods = shown_methods(content["methods"], details)
    support = content["support"]
    return render(
        "session_page.html.jinja",
        content=content,
        not_original=not_original(content["file"]),
        rule=_rule(content["sessions_by"]),
        support=support,
        labelled=support["kind"] != "none",
        methods=methods,
        explained=_EXPLAINED,
        best=any("f1_of_best_state_on_judged" in method.figures for method in methods),
        curves=precision_recall_of(methods),
    )


def _rule(said: str) -> str:
    """What makes a session, from the words of a command line: `key`, `20` or `300s`."""
    if said == "key":
        return "by key"
    return f"of {said} lines" if said.isdigit() else f"of {said}"
