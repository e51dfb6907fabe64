"""`trainer adapt`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crosyslog.errors import SettingError
from crosyslog.store import DEFAULT_BASE, DETECTORS, DetectorKind, Store
from trainer.method_choice import METHOD_HELP, Method, method_of, refuse_without_effect
from trainer.screen import SYSTEM_HELP

if TYPE_CHECKING:
    from crosyslog.bundle import Bundle
    from trainer.given_support import GivenSupport
    from trainer.rest_of_log import RestOfLog
    from trainer.self_estimate import SelfEstimate

#: Alerts on the rest of the log that are printed; `--json` has more.
_SHOWN = 5


def adapt(
    *,
    target: Annotated[str, typer.Option(metavar="NAME", help="the system to adapt to")],
    log: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="its log, or a prepared one: all labels are used; metalog reads several as one",
        ),
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="labels as CSV, of templates (template,label) or of the log's lines (line,label); "
            "for metalog of sessions (session,label)  [default: the log's, before them "
            "PATH.labels.csv where keys make the sessions]",
        ),
    ] = None,
    method: Annotated[Method | None, typer.Option(help=METHOD_HELP, show_default=False)] = None,
    sessions: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="of metalog: which lines make a session: key, a number of lines (20) or a time "
            "(5m)  [default: as the profile says]",
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help=SYSTEM_HELP),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="where to start: a shipped base, or a folder; of metalog, a folder that "
            f"`trainer train` made  [default: {DEFAULT_BASE}; of metalog none]",
            show_default=False,
        ),
    ] = None,
    detector: Annotated[
        DetectorKind | None,
        typer.Option(
            help="of crosyslog's base: the network over evidence, or the published LSTM  "
            f"[default: {DETECTORS[0]}]",
            show_default=False,
        ),
    ] = None,
    quiet_alerts: Annotated[
        bool,
        typer.Option("--quiet-alerts", help="of crosyslog: a higher threshold, fewer false alerts"),
    ] = False,
    store: Annotated[
        str | None, typer.Option(metavar="DIR", help="where models are kept: a folder, or a URL")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Adapts a base to a system from labels, and stores the model for the agent.

    Without --log and --labels, from the answers to `trainer label`, or from the target's log in
    the data folder. Sessions need a log, and no label.
    """
    from crosyslog.locations import default_store
    from crosyslog.store import open_store
    from trainer.given_support import profile_of

    models = open_store(store or default_store())
    models.versions(target)  # refuses an impossible name before any work
    logs, files = log or [], labels or []
    profile, notes = profile_of(target, system, logs[0] if logs else None, models)
    chosen = method_of(method, [profile])
    if chosen == "metalog":
        refuse_without_effect(chosen, {"--detector": detector, "--quiet-alerts": quiet_alerts})
        from trainer.commands.session_adapting import Given, adapt_to_sessions

        given = Given(target, logs, files, profile, system, sessions, base)
        adapt_to_sessions(given, models, notes, json=json)
        return
    refuse_without_effect(chosen, {"--sessions": sessions})
    if len(logs) > 1:
        raise SettingError("--log is given twice: --method crosyslog reads one log")
    _adapt_to_lines(
        target,
        logs[0] if logs else None,
        files,
        system=system,
        base=base,
        detector=detector,
        quiet=quiet_alerts,
        models=models,
        json=json,
    )


def _adapt_to_lines(
    target: str,
    log: Path | None,
    labels: list[Path],
    *,
    system: str | None,
    base: str | None,
    detector: DetectorKind | None,
    quiet: bool,
    models: Store,
    json: bool,
) -> None:
    """Adapts a base that judges lines."""
    from trainer.given_support import given_support
    from trainer.starting_bases import starting_base

    start = starting_base(base, "crosyslog", detector)
    given = given_support(target, log, labels, system, models)

    from crosyslog.bundle import load_bundle, write_bundle
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.locations import default_cache
    from crosyslog.threads import torch_threads
    from trainer import adaptation
    from trainer.labelled_logs import encode_texts, encoder_of
    from trainer.rest_of_log import judge_rest
    from trainer.tasks import LabelledStream

    origin = load_bundle(start)
    whole = given.log
    texts = sorted({*given.templates, *(whole.templates if whole is not None else ())})
    encoder = encoder_of(origin.manifest.encoder, texts, whole.vectors if whole else None)
    prepared = whole is not None and encoder is whole.vectors
    cache = EmbeddingCache(None if prepared else default_cache())
    encode_texts(texts, encoder, cache)
    words = ["trainer", "adapt", "--target", target]
    words += ["--log", log.name] if log is not None else []
    words += [word for path in labels for word in ("--labels", path.name)]
    words += ["--system", system] if system else []
    words += ["--detector", detector] if detector else []
    words += ["--quiet-alerts"] if quiet else []
    vectors = cache.vectors(given.templates, encoder)
    with torch_threads(1):
        bundle, estimate = adaptation.adapt_and_estimate(
            origin,
            LabelledStream(target, given.templates, vectors, given.rows, given.labels),
            system=given.system,
            quiet=quiet,
            version="unsaved",
            command=shlex.join([*words, "--base", base or DEFAULT_BASE]),
        )
        rest = judge_rest(bundle, whole, encoder, cache) if whole is not None else None

    def write(folder: Path, version: str) -> None:
        manifest = bundle.manifest.model_copy(update={"version": version})
        write_bundle(folder, manifest, bundle.detector, bundle.support)

    version = models.add(target, write)
    _report(bundle, estimate, rest, given, version=version, store=models.location, json=json)


def _report(
    bundle: "Bundle",
    estimate: "SelfEstimate | None",
    rest: "RestOfLog | None",
    given: "GivenSupport",
    *,
    version: str,
    store: str,
    json: bool,
) -> None:
    from trainer.screen import say, say_facts, say_json
    from trainer.starting_bases import known_notes

    manifest = bundle.manifest
    assert manifest.system is not None  # noqa: S101 - an adapted bundle has a profile
    support, notes = manifest.support, list(given.notes)
    one_class = support.alerts in {0, support.lines}
    if one_class:
        only = "alerts" if support.alerts else "normal lines"
        notes.append(
            f"the labels are {only} alone: what was given is remembered, and the base decides "
            "about the rest"
        )
    notes += known_notes(manifest)
    if json:
        content: dict[str, Any] = {
            "target": manifest.target,
            "version": version,
            "store": store,
            "system": manifest.system.name,
            "base": manifest.base,
            "detector": manifest.detector.kind,
            "sources": list(manifest.sources),
            "files": given.files,
            "support": support.model_dump(),
            "one_class": one_class,
            "threshold": manifest.threshold.model_dump(),
            "figures": manifest.figures,
            "contradicted": _contradicted(bundle, estimate),
            "rest": _rest_content(rest) if rest else None,
            "settings": manifest.settings,
            "notes": notes,
        }
        say_json(content)
        return
    normal = support.templates - support.alert_templates
    say(f"{manifest.target}: version {version} is stored in {store} and in use")
    say_facts(
        [
            ("learnt from", f"{support.lines:,} labels, {support.alerts:,} of them of alerts"),
            ("given in", ", ".join(given.files)),
            ("templates", f"{support.alert_templates} of alerts, {normal} of normal lines"),
            ("lines split by", manifest.system.name),
            ("detector", manifest.detector.kind),
            ("base", f"{manifest.base}, trained on {', '.join(manifest.sources)}"),
            ("threshold", f"{manifest.threshold.value}, {manifest.threshold.chosen}"),
            *(_estimated(bundle, estimate) if estimate else []),
            *(_on_the_rest(rest) if rest else []),
            *(("note", note) for note in notes),
        ]
    )


def _estimated(bundle: "Bundle", estimate: "SelfEstimate") -> list[tuple[str, str]]:
    """What is printed of a model's estimate of itself."""
    from trainer.self_estimate import contradicted_facts, left_out_facts

    doubtful = [(one["template"], one["label"]) for one in _contradicted(bundle, estimate)]
    return [
        *left_out_facts(estimate.precision, estimate.recall),
        ("beside logreg", f"says something else of {estimate.disagreement} templates"),
        *contradicted_facts(doubtful),
    ]


def _contradicted(bundle: "Bundle", estimate: "SelfEstimate | None") -> list[dict[str, str]]:
    """The templates whose label the others contradict, the most doubtful first."""
    found = []
    for row in estimate.contradicted if estimate else []:
        given = bundle.support.row(row, named=True)
        label = "alert" if given["alert"] else "normal"
        found.append({"template": given["template"], "label": label})
    return found


def _on_the_rest(rest: "RestOfLog") -> list[tuple[str, str]]:
    """What is printed of the lines that have no label."""
    often = f"{rest.per_hour:,.2f} an hour" if rest.per_hour is not None else "times unknown"
    found = f"{rest.lines:,} lines without label: {rest.alerts:,} alerts, {often}"
    facts = [("on the rest", found)]
    if rest.labelled:
        facts.append(("", f"{rest.labelled:,} of them are of templates that are labelled alerts"))
    for alert in rest.told[:_SHOWN]:
        near = alert.nearest
        like = f", {near.similarity:.2f} like `{near.template}` ({near.label})" if near else ""
        why = "labelled so" if alert.labelled else f"score {alert.score:.2f}{like}"
        facts.append(("", f"{alert.lines:,} of `{alert.template}`: {why}"))
    return facts


def _rest_content(rest: "RestOfLog") -> dict[str, Any]:
    return {
        "lines": rest.lines,
        "alerts": rest.alerts,
        "alerts_of_labelled_templates": rest.labelled,
        "hours": rest.hours,
        "alerts_per_hour": rest.per_hour,
        "told": [
            alert._asdict() | {"nearest": alert.nearest._asdict() if alert.nearest else None}
            for alert in rest.told
        ],
    }
