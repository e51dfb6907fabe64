"""`trainer evaluate`."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crosyslog.errors import SettingError, ToolMissingError
from crosyslog.store import DEFAULT_BASE, DETECTORS, DetectorKind
from trainer.commands.train import WordVectorsOption
from trainer.method_choice import SESSION_METHODS, method_of, refuse_without_effect

if TYPE_CHECKING:
    from crosyslog.bundle import Bundle
    from crosyslog.systems import System
    from trainer.based_methods import BasedMethods, Method, SteppedMethod
    from trainer.evaluation import Rule
    from trainer.labelled_lines import LabelledLines
    from trainer.protocol import Plan
    from trainer.tasks import LabelledStream


#: Parameters that say something of lines, and of sessions, alone.
_OF_LINES = frozenset(
    {"support", "ask", "history", "at_once", "protocol", "base", "detector", "tasks"}
    | {"wrong_labels", "quiet_alerts", "predictions"}
)
_OF_SESSIONS = frozenset({"sessions", "label_share", "normal_share", "config", "word_vectors"})


def evaluate(
    context: typer.Context,
    *,
    target: Annotated[str, typer.Option(metavar="NAME", help="the system to be judged on")],
    log: Annotated[
        list[Path],
        typer.Option(
            metavar="PATH",
            help="a labelled log of it, or a prepared one; metalog reads several as one",
        ),
    ],
    labels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="labels of the log's lines, as CSV: line,label; for metalog of its sessions "
            "(session,label), and NAME=FILE those of a source's  [default: LOG.labels.csv, else "
            "the log's]",
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help="how lines split  [default: the target's name]"),
    ] = None,
    support: Annotated[
        int,
        typer.Option(metavar="N", min=10, help="of lines: labelled ones in a row to learn from"),
    ] = 1000,
    ask: Annotated[
        int | None,
        typer.Option(metavar="N", min=2, help="of lines: instead, labels of this many templates"),
    ] = None,
    history: Annotated[
        int, typer.Option(metavar="N", min=100, help="of lines: those that --ask chooses from")
    ] = 10_000,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="with --ask: ours, too, chooses without rounds")
    ] = False,
    protocol: Annotated[
        Literal["honest", "paper"],
        typer.Option(help="of lines: the paper's adds steps that are chosen on those judged"),
    ] = "honest",
    base: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="of lines: one that does not know the target, or a folder  [default: "
            f"without-NAME for a shipped source, else {DEFAULT_BASE}]",
        ),
    ] = None,
    detector: Annotated[
        DetectorKind | None,
        typer.Option(
            help=f"what `crosyslog` is: a base's network over evidence, or its LSTM  "
            f"[default: {DETECTORS[0]}]",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="train a base on this, in place of --base; repeatable; metalog needs one",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"judge this one alone; repeatable; of sessions: {', '.join(SESSION_METHODS)}  "
            "[default: all that judge what the profile says]",
        ),
    ] = None,
    sessions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="of metalog: which lines make a session: key, a number of lines (20) or a time "
            "(5m); NAME=RULE for a source  [default: as the profile says]",
        ),
    ] = None,
    label_share: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="of metalog: how many of the anomalous sessions to learn from have a label; 0 "
            "uses no label of the target",
        ),
    ] = 0.01,
    normal_share: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="of metalog: how many of the normal sessions to learn from have a label; the "
            "published methods know half of them",
        ),
    ] = 0.5,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="of metalog: settings of the training, as TOML"),
    ] = None,
    word_vectors: WordVectorsOption = None,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, help="how often to draw tasks, or labels of sessions")
    ] = 3,
    first_seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=2**31 - 1, help="the first of them")
    ] = 0,
    tasks: Annotated[
        int, typer.Option(metavar="N", min=1, help="of lines: tasks to draw a seed")
    ] = 20,
    wrong_labels: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0, max=0.5, help="of lines: of the labels to turn around"
        ),
    ] = 0.0,
    quiet_alerts: Annotated[
        bool,
        typer.Option("--quiet-alerts", help="of lines: a higher threshold, fewer false alerts"),
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="of lines: the scores of all that are judged, as Parquet"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="where evaluation.json and evaluation.html are written"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Judges methods on a labelled log as if they had met the system for the first time."""
    if find_spec("sklearn") is None:
        raise ToolMissingError("evaluate needs scikit-learn: install the extra crosyslog[trainer]")
    from trainer.commands.session_evaluating import Given, evaluate_sessions
    from trainer.labelled_logs import system_of

    profile = system_of(target, system, log[0])
    asked = method or []
    chosen: Literal["crosyslog", "metalog"]
    if set(asked) & set(SESSION_METHODS):
        chosen = "metalog"
    elif asked:
        from trainer.evaluation import check_methods, rules

        # Before options are: which of them have an effect says the method.
        check_methods(asked, rules())
        chosen = "crosyslog"
    else:
        chosen = method_of(None, [profile])
    others = _OF_LINES if chosen == "metalog" else _OF_SESSIONS
    refuse_without_effect(chosen, dict.fromkeys(_written(context, others), True))
    if chosen == "metalog":
        if not label_share and _written(context, frozenset({"normal_share"})):
            raise SettingError(
                "--normal-share has no effect with --label-share 0: no label of the target is used"
            )
        given = Given(
            target, profile, log, source or [], labels or [], sessions or [], asked,
            label_share, normal_share, seeds, first_seed, config, word_vectors, output,
        )  # fmt: skip
        evaluate_sessions(given, json=json)
        return
    if len(log) > 1 or len(labels or []) > 1:
        raise SettingError("--log and --labels are given once: --method crosyslog reads one log")
    path, beside = log[0], Path(labels[0]) if labels else None
    from trainer.protocol import Plan

    plan = Plan(
        support=support,
        ask=ask,
        history=history,
        seeds=seeds,
        first_seed=first_seed,
        tasks=tasks,
        protocol=protocol,
        wrong_labels=wrong_labels,
        quiet_alerts=quiet_alerts,
        curve=output is not None,
        at_once=at_once,
    )
    _evaluate_lines(
        _Given(
            target, profile, path, beside, plan, base, detector, source or [], asked,
            predictions, output,
        ),
        json=json,
    )  # fmt: skip


@dataclass(frozen=True)
class _Given:
    """What the command line says of an evaluation of lines; see its options."""

    target: str
    profile: "System"
    log: Path
    labels: Path | None
    plan: "Plan"
    base: str | None
    detector: DetectorKind | None
    sources: list[str]
    methods: list[str]
    predictions: Path | None
    output: Path | None


def _evaluate_lines(given: _Given, *, json: bool) -> None:
    """Judges what judges lines, and reports."""
    from crosyslog.threads import torch_threads
    from trainer.based_methods import BASED
    from trainer.bases_to_judge import bases_for
    from trainer.evaluation import check_methods, rules
    from trainer.evaluation import judge as judge_tasks
    from trainer.inspection import inspect, write_predictions
    from trainer.labelled_logs import raw_lines, read_labelled
    from trainer.page import write_page
    from trainer.page_rendering import check_page_tools
    from trainer.protocol import draw
    from trainer.report import Evaluation, check_output, show_evaluation, write_evaluation
    from trainer.screen import progress, say_json

    known, plan, target, path = rules(), given.plan, given.target, given.log
    names = check_methods(given.methods, known)
    output, predictions = given.output, given.predictions
    if plan.quiet_alerts and not set(names) & set(BASED):
        raise SettingError(
            f"--quiet-alerts is for {' and '.join(BASED)}, and --method leaves them out"
        )
    if output is not None:
        check_output(output)
        check_page_tools()
    if predictions is not None and not predictions.absolute().parent.is_dir():
        raise SettingError(f"--predictions {predictions}: its folder does not exist")
    bases = bases_for(
        names,
        given.base,
        given.sources,
        given.detector,
        target=target,
        system=given.profile,
        asked_for=given.methods,
    )
    names = [name for name in names if name in known or name in bases]
    lines = read_labelled(path, given.profile, given.labels)
    drawn = draw(lines.labels, plan)
    loaded = {name: load() for name, load in bases.items()}
    made = _prepare(loaded, names, known, target, lines, plan, given.profile)
    positions = len(drawn.tasks) + len(drawn.outside)
    with torch_threads(1), progress("judging tasks", positions) as done:
        results = judge_tasks(made.stream, drawn, made.methods, plan, done, made.oracles)
    evaluation = Evaluation(made.stream, path.name, made.base, plan, drawn, results)
    content = evaluation.content()
    if predictions is not None:
        write_predictions(predictions, made.stream, lines.offsets, drawn, plan, results)
    if output is not None:
        write_evaluation(content, output)
        examples = None if path.is_dir() else raw_lines(path, lines.offsets)
        details = inspect(made.stream, drawn, plan, results, evaluation.blocks(), examples)
        write_page(content, details, output)
    if json:
        say_json(content)
    else:
        show_evaluation(content)


def _written(context: typer.Context, parameters: frozenset[str]) -> list[str]:
    """The options among some parameters that the command line has, as they are written."""
    given = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in parameters and source is not None and source.name == "COMMANDLINE":
            given.append(parameter)
    return [parameter.opts[0] for parameter in given]


@dataclass(frozen=True)
class _Made:
    base: "Bundle | None"
    stream: "LabelledStream"
    methods: list[tuple[str, "Method"]]
    oracles: dict[str, "SteppedMethod"]


def _prepare(
    bases: dict[str, "Bundle"],
    names: list[str],
    known: "dict[str, Rule]",
    target: str,
    lines: "LabelledLines",
    plan: "Plan",
    profile: "System",
) -> _Made:
    """The stream with its vectors, and the methods over it."""
    import polars as pl

    from trainer.based_methods import BasedMethods
    from trainer.evaluation import by_rule
    from trainer.labelled_logs import cache_for, encode_with_progress, encoder_for
    from trainer.tasks import labelled_stream

    base = bases.get("crosyslog") or bases.get("maml_lstm")
    cache = cache_for(lines)
    encoder = encoder_for([lines], base.manifest.encoder if base else None)
    encode_with_progress([lines], encoder, cache)
    stream = labelled_stream(target, lines, encoder, cache)
    made = _Made(
        base,
        stream,
        [(name, by_rule(known[name], stream, plan)) for name in names if name in known],
        {},
    )
    based: dict[int, BasedMethods] = {}
    for name, its in bases.items():
        # Methods of one base share it, and with it what is adapted once a task.
        if id(its) not in based:
            based[id(its)] = BasedMethods(
                its,
                stream,
                pl.Series("offset", lines.offsets),
                plan=plan,
                system=profile,
                encoder=encoder,
                cache=cache,
                hosts=lines.hosts,
            )
        _add_method(made, name, based[id(its)], plan, split=lines.hosts is not None)
    return made


def _add_method(
    made: _Made, name: str, based: "BasedMethods", plan: "Plan", *, split: bool
) -> None:
    from trainer.evaluation import BY_HOST

    made.methods.append((name, based.method(name)))
    if split and name == "crosyslog":
        made.methods.append((name + BY_HOST, based.method(name, by_host=True)))
    if plan.protocol == "paper":
        made.oracles[name] = based.stepped(name)
