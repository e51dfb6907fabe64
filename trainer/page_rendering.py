"""How the pages of evaluations are made: from a template to a file that asks for nothing.

Log text is hostile: whatever a template writes goes through `printable` and is then escaped. Only
the plots are markup of our own, and they hold no text from anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from crosyslog.errors import SettingError, ToolMissingError
from crosyslog.terminal import printable
from trainer.evaluation import ORACLE
from trainer.plots import Curve, Look, look, precision_recall_plot
from trainer.private_files import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from markupsafe import Markup

#: The file that is written beside `evaluation.json`.
FILE = "evaluation.html"

#: Characters of a template, line or name that are shown.
_CHARACTERS = 1000

#: What an evaluation kept of a method beyond its figures.
Details = TypeVar("Details", bound=Curve)


@dataclass(frozen=True)
class ShownMethod(Generic[Details]):
    """A method as a page's tables and legends show it.

    Attributes:
        name: as in the evaluation.
        oracle: whether it is one, which is not honest.
        figures: as `evaluation.json` has them.
        look: of its lines in the plots.
        details: none where the evaluation kept none.
    """

    name: str
    oracle: bool
    figures: dict[str, Any]
    look: Look
    details: Details | None


def check_page_tools() -> None:
    """Refuses to go on without what a page is made with: to be called before any work.

    Raises:
        ToolMissingError: it is not installed.
    """
    for module, name in (("jinja2", "Jinja2"), ("matplotlib", "matplotlib")):
        if find_spec(module) is None:
            raise ToolMissingError(
                f"the page of an evaluation needs {name}: install the extra crosyslog[trainer]"
            )


def shown_methods(
    figures: Mapping[str, dict[str, Any]], details: Mapping[str, Details]
) -> list[ShownMethod[Details]]:
    """Methods in the order of their figures, each with a look of its own.

    Args:
        figures: by method.
        details: by method; of some, or of none.
    """
    return [
        ShownMethod(
            name=name,
            oracle=name.endswith(ORACLE),
            figures=of_method,
            look=look(number),
            details=details.get(name),
        )
        for number, (name, of_method) in enumerate(figures.items())
    ]


def precision_recall_of(
    methods: Sequence[ShownMethod[Details]],
) -> tuple[Markup, list[ShownMethod[Details]]] | None:
    """The plot of precision against recall, and the methods in it; none where no curve is known."""
    curves = [
        (method, method.details)
        for method in methods
        if method.details is not None and method.details.recall
    ]
    if not curves:
        return None
    svg = precision_recall_plot(
        [
            (method.look, curve, (method.figures["recall"], method.figures["precision"]))
            for method, curve in curves
        ]
    )
    return plot_markup(svg), [method for method, _ in curves]


def plot_markup(svg: str) -> Markup:
    """A plot of `trainer.plots`, which a template writes as it is; nothing else may come here."""
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704 - markup of our own, with no text from anywhere


def not_original(file: str) -> str:
    """What kind of log stands in for an original: by its file's name; empty for an original."""
    for kind in ("reconstructed", "simulated"):
        if kind in file.lower():
            return kind
    return ""


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - whatever a template writes
    """A page as text; text among the values cannot act on it.

    Args:
        template: the name of a file in this package.
        values: by the names that the template calls them.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"short": _short, "reason": lambda key: key.replace("_", " ")}
    return environment.get_template(template).render(values)


def write_html(page: str, folder: Path) -> Path:
    """Writes `evaluation.html` into a folder, which is made; its owner alone can read the file.

    Args:
        page: its text.
        folder: that of `evaluation.json`.

    Returns:
        The file.

    Raises:
        SettingError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_private(folder / FILE, page.encode())
    except OSError as error:
        raise SettingError(f"--output {folder}: it cannot be written: {error.strerror}") from error
    return folder / FILE


def _source(template: str) -> str:
    return files("trainer").joinpath(template).read_text(encoding="utf-8")


def _short(text: str) -> str:
    """The beginning of a text that is too long to be read."""
    if len(text) <= _CHARACTERS:
        return text
    return f"{text[:_CHARACTERS]} … ({len(text) - _CHARACTERS:,} more characters)"


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever a template writes
    """Text as it may be shown; markup of the template itself stays."""
    return printable(value) if type(value) is str else value
