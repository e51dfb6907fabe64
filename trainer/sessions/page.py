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

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.sessions.inspection import SessionDetails


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
        best=any("f1_of_best_state_on_judged" in method.figures for method in methods),
        curves=precision_recall_of(methods),
    )


def _rule(said: str) -> str:
    """What makes a session, from the words of a command line: `key`, `20` or `300s`."""
    if said == "key":
        return "by key"
    return f"of {said} lines" if said.isdigit() else f"of {said}"
