"""An evaluation of lines as one HTML page that asks for nothing: no request, no script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.page_rendering import (
    check_page_tools,
    not_original,
    plot_markup,
    precision_recall_of,
    render,
    shown_methods,
    write_html,
)
from trainer.plots import labels_plot, reliability_plot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.details import MethodDetails
    from trainer.page_rendering import ShownMethod

#: Templates that a table of wrong judgements shows: a page of all of them would open slowly.
_TEMPLATES = 100


def write_page(content: dict[str, Any], details: Mapping[str, MethodDetails], folder: Path) -> Path:
    """Writes `evaluation.html` into a folder, which is made; the same input gives the same bytes.

    Args:
        content: what `Evaluation.content()` returns.
        details: by method; one that is missing has no curves, no seconds and no templates.
        folder: that of `evaluation.json`.

    Returns:
        The file.

    Raises:
        ToolMissingError: what makes the page is not installed.
        SettingError: it cannot be written.
    """
    check_page_tools()
    return write_html(_render(content, details), folder)


def _render(content: dict[str, Any], details: Mapping[str, MethodDetails]) -> str:
    methods = shown_methods(content["methods"], details)
    by_host = content.get("by_host")
    nothing: dict[str, MethodDetails] = {}
    split = shown_methods(by_host["methods"], nothing) if by_host else []
    oracles = any(method.oracle for method in (*methods, *split))
    skipped = content.get("skipped") or {"judged": 0}
    return render(
        "page.html.jinja",
        content=content,
        not_original=not_original(content["file"]),
        paper=oracles or content.get("protocol") == "paper",
        support={"kind": "contiguous", **content["support"]},
        wrong_labels=content.get("wrong_labels") or 0,
        quiet_alerts=content.get("quiet_alerts", False),
        methods=methods,
        split=split,
        partitions=by_host["partitions"] if by_host else 0,
        oracles=oracles,
        skipped=skipped,
        reasons=[
            (key, positions)
            for key, positions in skipped.items()
            if key not in {"positions", "judged", "methods"} and positions
        ],
        outside=shown_methods(skipped["methods"], nothing) if skipped["judged"] else [],
        plots=_plots(methods, content),
        limit=_TEMPLATES,
    )


def _plots(methods: list[ShownMethod[MethodDetails]], content: dict[str, Any]) -> dict[str, Any]:
    """By what they show: the SVG, and the methods in it; a plot of nothing is left out."""
    known = [(method, method.details) for method in methods if method.details is not None]
    plots: dict[str, Any] = {}
    if curves := precision_recall_of(methods):
        plots["precision_recall"] = curves
    labelled = [(method, details) for method, details in known if details.by_labels]
    if labelled:
        what = "templates" if content["support"].get("kind") == "chosen" else "lines"
        svg = labels_plot([(method.look, details.by_labels) for method, details in labelled], what)
        plots["labels"] = plot_markup(svg), [method for method, _ in labelled]
    binned = [(method, details) for method, details in known if details.reliability]
    if binned:
        svg = reliability_plot([(method.look, details.reliability) for method, details in binned])
        plots["reliability"] = plot_markup(svg), [method for method, _ in binned]
    return plots
