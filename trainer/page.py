"""An evaluation as one HTML page that asks for nothing: no request, no script.

Log text is hostile: whatever the template writes goes through `printable` and is then escaped.
Only the plots are markup of our own, and they hold no text from anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from crosyslog.errors import SettingError, ToolMissingError
from crosyslog.terminal import printable
from trainer.evaluation import ORACLE
from trainer.plots import Look, labels_plot, look, precision_recall_plot, reliability_plot
from trainer.private_files import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.details import MethodDetails

#: The file that is written beside `evaluation.json`.
FILE = "evaluation.html"

#: Templates that a table of wrong judgements shows: a page of all of them would open slowly.
_TEMPLATES = 100

#: Characters of a template or line that are shown.
_CHARACTERS = 1000


@dataclass(frozen=True)
class _Method:
    """A method as the page's tables and legends show it.

    Attributes:
        name: as in the evaluation.
        oracle: whether it is one, which is not honest.
        figures: of `Evaluation.content()`.
        look: of its lines in the plots.
        details: none where the evaluation kept none.
    """

    name: str
    oracle: bool
    figures: dict[str, Any]
    look: Look
    details: MethodDetails | None


def check_page_tools() -> None:
    """Refuses to go on without what the page is made with: to be called before any work.

    Raises:
        ToolMissingError: it is not installed.
    """
    for module, name in (("jinja2", "Jinja2"), ("matplotlib", "matplotlib")):
        if find_spec(module) is None:
            raise ToolMissingError(
                f"the page of an evaluation needs {name}: install the extra crosyslog[trainer]"
            )


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
    page = _render(content, details).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_private(folder / FILE, page)
    except OSError as error:
        raise SettingError(f"--output {folder}: it cannot be written: {error.strerror}") from error
    return folder / FILE


def _render(content: dict[str, Any], details: Mapping[str, MethodDetails]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"short": _short, "reason": lambda key: key.replace("_", " ")}
    template = files("trainer").joinpath("page.html.jinja").read_text(encoding="utf-8")
    methods = _methods(content["methods"], details)
    by_host = content.get("by_host")
    split = _methods(by_host["methods"], {}) if by_host else []
    oracles = any(method.oracle for method in (*methods, *split))
    skipped = content.get("skipped") or {"judged": 0}
    return environment.from_string(template).render(
        content=content,
        not_original=_not_original(content["file"]),
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
        outside=_methods(skipped["methods"], {}) if skipped["judged"] else [],
        plots=_plots(methods, content),
        limit=_TEMPLATES,
    )


def _methods(
    figures: Mapping[str, dict[str, Any]], details: Mapping[str, MethodDetails]
) -> list[_Method]:
    return [
        _Method(
            name=name,
            oracle=name.endswith(ORACLE),
            figures=of_method,
            look=look(number),
            details=details.get(name),
        )
        for number, (name, of_method) in enumerate(figures.items())
    ]


def _plots(methods: list[_Method], content: dict[str, Any]) -> dict[str, Any]:
    """By what they show: the SVG, and the methods in it; a plot of nothing is left out."""
    from markupsafe import Markup

    known = [(method, method.details) for method in methods if method.details is not None]
    plots: dict[str, Any] = {}
    curves = [(method, details) for method, details in known if details.recall]
    if curves:
        svg = precision_recall_plot(
            [
                (method.look, details, (method.figures["recall"], method.figures["precision"]))
                for method, details in curves
            ]
        )
        plots["precision_recall"] = svg, [method for method, _ in curves]
    labelled = [(method, details) for method, details in known if details.by_labels]
    if labelled:
        what = "templates" if content["support"].get("kind") == "chosen" else "lines"
        svg = labels_plot([(method.look, details.by_labels) for method, details in labelled], what)
        plots["labels"] = svg, [method for method, _ in labelled]
    binned = [(method, details) for method, details in known if details.reliability]
    if binned:
        svg = reliability_plot([(method.look, details.reliability) for method, details in binned])
        plots["reliability"] = svg, [method for method, _ in binned]
    # Markup: our own plots alone are let through as they are.
    return {name: (Markup(svg), drawn) for name, (svg, drawn) in plots.items()}  # noqa: S704


def _not_original(file: str) -> str:
    """What kind of log stands in for an original: by its file's name; empty for an original."""
    for kind in ("reconstructed", "simulated"):
        if kind in file.lower():
            return kind
    return ""


def _short(text: str) -> str:
    """The beginning of a text that is too long to be read."""
    if len(text) <= _CHARACTERS:
        return text
    return f"{text[:_CHARACTERS]} … ({len(text) - _CHARACTERS:,} more characters)"


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever a template writes
    """Text as it may be shown; markup of the template itself stays."""
    return printable(value) if type(value) is str else value
