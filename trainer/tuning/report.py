"""What a search found: a table, a plot, and the settings that did best."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from crosyslog.errors import LabelError
from crosyslog.terminal import printable
from trainer.tuning.held_out import TASKS
from trainer.tuning.records import QUARTERS, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.tuning.records import Trial

#: The files that a search makes.
TABLE, PLOT, BEST = "trials.csv", "trials.svg", "best.toml"

#: Rows of the table on the screen.
_SHOWN = 10


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Trials that were judged, the best first: those of the last rung before any other.

    Values of different rungs are not compared: a training that goes on mostly gets better.
    """
    judged = [trial for trial in trials if trial.last is not None]
    return sorted(
        judged,
        key=lambda trial: (-trial.rungs[-1].quarter, -trial.rungs[-1].f1, trial.number),
    )


def best_of(trials: Sequence[Trial]) -> Trial:
    """The best of the trials that ran to their last step.

    Raises:
        LabelError: none did.
    """
    finished = [trial for trial in ranked(trials) if trial.state == "finished"]
    if finished:
        return finished[0]
    why = next((trial.error for trial in trials if trial.error), "none has ended")
    raise LabelError(f"no trial came to its end: {why}")


def write_report(
    folder: Path, trials: Sequence[Trial], *, names: Sequence[str], command: str
) -> None:
    """Writes the table, the plot and the best settings.

    Args:
        folder: where to.
        trials: all of them.
        names: of the settings that vary.
        command: what was called.

    Raises:
        LabelError: no trial ran to its last step.
    """
    write_whole(folder / TABLE, table(trials, names))
    write_whole(folder / PLOT, _plot(trials))
    write_whole(folder / BEST, best_settings(trials, command))


def best_settings(trials: Sequence[Trial], command: str) -> str:
    """The settings of the best trial as TOML, under a comment that says where they are from.

    Raises:
        LabelError: no trial ran to its last step.
    """
    best = best_of(trials)
    last = best.rungs[-1]
    held_out = ", ".join(f"{name} {f1:.3f}" for name, f1 in last.held_out.items())
    comments = [
        "The best settings of a search; for `trainer train --detector maml_lstm --config`.",
        command,
        f"trial {best.number} of {len(trials)}: F1 {last.f1:.3f}, the mean over sources held out",
        f"({held_out}), each on at most {TASKS} tasks with memory",
    ]
    lines = [f"# {printable(comment)}" for comment in comments]
    lines += [f"{name} = {_toml(value)}" for name, value in best.settings.items()]
    return "\n".join(lines) + "\n"


def table(trials: Sequence[Trial], names: Sequence[str]) -> str:
    """All trials as CSV, by their numbers; empty where a trial did not get to.

    Args:
        trials: all of them.
        names: of the settings that vary.
    """
    sources = sorted({name for trial in trials for rung in trial.rungs for name in rung.held_out})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rungs = [f"f1_after_{quarter}_of_{QUARTERS[-1]}" for quarter in QUARTERS]
    of_sources = [f"f1_{name}" for name in sources]
    writer.writerow(
        ["trial", "state", "steps", "f1", *rungs, *of_sources, "seconds", *names, "error"]
    )
    for trial in trials:
        last = trial.last
        f1s = {rung.quarter: rung.f1 for rung in trial.rungs}
        row: list[Any] = [trial.number, trial.state]
        row += [last.step, _figure(last.f1)] if last else ["", ""]
        row += [_figure(f1s.get(quarter)) for quarter in QUARTERS]
        row += [_figure(last.held_out.get(name) if last else None) for name in sources]
        row += [f"{last.seconds:.1f}" if last else ""]
        row += [_toml(trial.settings[name]) for name in names]
        writer.writerow([*row, printable(trial.error or "")])
    return text.getvalue()


def content(trials: Sequence[Trial], folder: Path) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "output": str(folder),
        "best": best_of(trials).number,
        "files": [TABLE, PLOT, BEST],
        "trials": [trial.model_dump(mode="json") for trial in trials],
    }


def show_report(trials: Sequence[Trial], folder: Path, names: Sequence[str]) -> None:
    """Writes the best trials to standard output, and where everything is."""
    from trainer.screen import say, say_facts, say_table

    best = best_of(trials)
    sources = list(best.rungs[-1].held_out)
    rows = [
        [
            str(trial.number),
            trial.state,
            str(trial.rungs[-1].step),
            f"{trial.rungs[-1].f1:.3f}",
            *(f"{trial.rungs[-1].held_out[name]:.3f}" for name in sources),
            f"{trial.rungs[-1].seconds:.0f}",
            *(_toml(trial.settings[name]) for name in names),
        ]
        for trial in ranked(trials)[:_SHOWN]
    ]
    say_table(["trial", "state", "steps", "F1", *sources, "s", *names], rows)
    say("")
    say("F1 is the mean over the sources, each judged by a base that was trained on the others.")
    states = [trial.state for trial in trials]
    say(
        f"{len(trials)} trials: "
        + ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    )
    failed = [trial for trial in trials if trial.state == "failed"]
    for trial in failed[:_SHOWN]:
        say(f"trial {trial.number} failed: {trial.error}")
    say("")
    say_facts(
        [
            (
                "best settings",
                f"{folder / BEST}: trial {best.number}, for `trainer train --config`",
            ),
            ("all trials", str(folder / TABLE)),
            ("plot", str(folder / PLOT)),
        ]
    )


def _plot(trials: Sequence[Trial]) -> str:
    """The objective over the outer steps of each trial, and the best so far over trials."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    best = best_of(trials)
    # Names of the drawing's parts that do not differ from run to run.
    with mpl.rc_context({"svg.hashsalt": "crosyslog"}):
        figure = Figure(figsize=(10, 4), layout="constrained")
        steps, order = figure.subplots(1, 2)
        for trial in trials:
            mine = trial is best
            steps.plot(
                [rung.step for rung in trial.rungs],
                [rung.f1 for rung in trial.rungs],
                marker="o",
                markersize=4 if mine else 3,
                color="tab:blue" if mine else "silver",
                zorder=3 if mine else 2,
                label=f"trial {trial.number}, the best" if mine else None,
            )
        steps.set(xlabel="outer steps", ylabel="mean F1 of held-out sources", ylim=(0, 1))
        steps.legend(loc="lower right")
        for state, marker in (("finished", "o"), ("stopped", "x")):
            those = [trial for trial in ranked(trials) if trial.state == state]
            order.scatter(
                [trial.number for trial in those],
                [trial.rungs[-1].f1 for trial in those],
                marker=marker,
                color="grey",
                label=state,
            )
        numbers, so_far = _best_so_far(trials)
        order.step(numbers, so_far, where="post", color="tab:blue", label="best so far")
        order.set(xlabel="trial", ylim=(0, 1))
        order.xaxis.set_major_locator(MaxNLocator(integer=True))
        order.legend(loc="lower right")
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
    return text.getvalue()


def _best_so_far(trials: Sequence[Trial]) -> tuple[list[int], list[float]]:
    """Over the numbers of all trials, the best of those that had finished by then."""
    numbers: list[int] = []
    so_far: list[float] = []
    for trial in trials:
        if trial.state == "finished":
            so_far.append(max([trial.rungs[-1].f1, *so_far[-1:]]))
            numbers.append(trial.number)
        elif so_far:
            so_far.append(so_far[-1])
            numbers.append(trial.number)
    return numbers, so_far


def _toml(value: Any) -> str:  # noqa: ANN401 - whatever a setting is
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
