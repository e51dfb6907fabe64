"""`trainer evaluate`."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosyslog.errors import ToolMissingError
from crosyslog.store import DEFAULT_BASE

if TYPE_CHECKING:
    from crosyslog.bundle import Bundle
    from crosyslog.systems import System
    from trainer.evaluation import Method, Plan
    from trainer.labelled_lines import LabelledLines
    from trainer.tasks import LabelledStream


def evaluate(
    *,
    target: Annotated[str, typer.Option(metavar="NAME", help="the system to be judged on")],
    log: Annotated[
        Path, typer.Option(metavar="PATH", help="a labelled log of it, or a prepared one")
    ],
    system: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help="how lines split  [default: the target's name]"),
    ] = None,
    support: Annotated[
        int, typer.Option(metavar="N", min=10, help="labelled lines in a row to learn from")
    ] = 1000,
    base: Annotated[
        str, typer.Option(metavar="NAME", help="one that does not know the target, or a folder")
    ] = DEFAULT_BASE,
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="judge this one alone; repeatable  [default: all]"),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="how often to draw tasks")] = 3,
    first_seed: Annotated[int, typer.Option(metavar="N", min=0, help="the first of them")] = 0,
    tasks: Annotated[int, typer.Option(metavar="N", min=1, help="tasks to draw a seed")] = 20,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where evaluation.json is written")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Judges methods on a labelled log as if they had met the system for the first time."""
    if find_spec("sklearn") is None:
        raise ToolMissingError("evaluate needs scikit-learn: install the extra crosyslog[trainer]")
    from crosyslog.threads import torch_threads
    from trainer.evaluation import BASED, Plan, check_methods, draw, refuse_known
    from trainer.evaluation import judge as judge_tasks
    from trainer.labelled_logs import read_labelled, system_of
    from trainer.report import Evaluation, check_output, show_evaluation, write_evaluation
    from trainer.screen import progress, say_json

    names = check_methods(method or [])
    if output is not None:
        check_output(output)
    profile = system_of(target, system, log)
    folder = None
    if set(names) & set(BASED):
        from crosyslog.manifest import load_manifest
        from crosyslog.store import base_path

        folder = base_path(base)
        refuse_known(load_manifest(folder)[0], target, profile)
    plan = Plan(support=support, seeds=seeds, first_seed=first_seed, tasks=tasks)
    lines = read_labelled(log, profile)
    drawn = draw(lines.labels, plan)
    origin, stream, methods = _prepare(folder, names, target, lines, plan, profile)
    positions = len(drawn.tasks) + len(drawn.outside)
    with torch_threads(1), progress("judging tasks", positions) as done:
        results = judge_tasks(stream, drawn, methods, plan, done)
    content = Evaluation(stream, log.name, origin, plan, drawn, results).content()
    if output is not None:
        write_evaluation(content, output)
    if json:
        say_json(content)
    else:
        show_evaluation(content)


def _prepare(
    folder: Path | None,
    names: list[str],
    target: str,
    lines: "LabelledLines",
    plan: "Plan",
    profile: "System",
) -> tuple["Bundle | None", "LabelledStream", list[tuple[str, "Method"]]]:
    """The base, the stream with its vectors, and the methods over it."""
    import polars as pl

    from crosyslog.bundle import load_bundle
    from trainer.baselines import BASELINES
    from trainer.evaluation import BASED, BasedMethods, baseline
    from trainer.labelled_logs import cache_for, encode_with_progress, encoder_for
    from trainer.tasks import labelled_stream

    base = load_bundle(folder) if folder is not None else None
    cache = cache_for(lines)
    encoder = encoder_for([lines], base.manifest.encoder if base else None)
    encode_with_progress([lines], encoder, cache)
    stream = labelled_stream(target, lines, encoder, cache)
    methods = [(name, baseline(name, stream, plan)) for name in names if name in BASELINES]
    if base is not None:
        based = BasedMethods(
            base,
            stream,
            pl.Series("offset", lines.offsets),
            plan=plan,
            system=profile,
            encoder=encoder,
            cache=cache,
        )
        methods += [(name, based.method(name)) for name in names if name in BASED]
    return base, stream, methods
