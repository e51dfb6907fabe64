"""`trainer adapt`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crosyslog.errors import LabelError
from crosyslog.store import DEFAULT_BASE, DETECTORS, DetectorKind

if TYPE_CHECKING:
    from crosyslog.bundle import Bundle
    from trainer.self_estimate import SelfEstimate

#: Contradicted labels that are printed; `--json` has all.
_SHOWN = 5


def adapt(
    *,
    target: Annotated[str, typer.Option(metavar="NAME", help="the system to adapt to")],
    log: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="a labelled log, or a prepared one: all labels are used"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="labels of the log's lines, as CSV: line,label"),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help="how lines split  [default: the target's name]"),
    ] = None,
    base: Annotated[
        str, typer.Option(metavar="NAME", help="where to start: a shipped base, or a folder")
    ] = DEFAULT_BASE,
    detector: Annotated[
        DetectorKind | None,
        typer.Option(
            help="of the base: the network over evidence, or the published LSTM  "
            f"[default: {DETECTORS[0]}]",
            show_default=False,
        ),
    ] = None,
    quiet_alerts: Annotated[
        bool, typer.Option("--quiet-alerts", help="a higher threshold: fewer false alerts")
    ] = False,
    store: Annotated[Path | None, typer.Option(metavar="DIR", help="where models are kept")] = None,
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Adapts a base to a system from labelled lines, and stores the model for the agent."""
    if log is None:
        raise LabelError(
            f"no labels to adapt to {target} with: give a labelled log with --log FILE; to try it "
            "out, `trainer simulate` writes one"
        )
    from crosyslog.locations import default_store
    from crosyslog.store import Store, base_path
    from trainer.labelled_logs import (
        encode_with_progress,
        encoder_for,
        read_labelled,
        system_of,
    )

    models = Store(store or default_store())
    models.versions(target)  # refuses an impossible name before any work
    profile = system_of(target, system, log)
    start = base_path(base, detector)
    support = read_labelled(log, profile, labels)

    from crosyslog.bundle import load_bundle, write_bundle
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.locations import default_cache
    from crosyslog.threads import torch_threads
    from trainer import adaptation
    from trainer.tasks import labelled_stream

    origin = load_bundle(start)
    encoder = encoder_for([support], origin.manifest.encoder)
    cache = EmbeddingCache(default_cache())
    encode_with_progress([support], encoder, cache)
    words = ["trainer", "adapt", "--target", target, "--log", log.name]
    words += ["--labels", labels.name] if labels else []
    words += ["--system", system] if system else []
    words += ["--detector", detector] if detector else []
    words += ["--quiet-alerts"] if quiet_alerts else []
    with torch_threads(1):
        adaptation.check_encoder(origin.manifest, encoder)
        bundle, estimate = adaptation.adapt_and_estimate(
            origin,
            labelled_stream(target, support, encoder, cache),
            system=profile,
            quiet=quiet_alerts,
            version="unsaved",
            command=shlex.join([*words, "--base", base]),
        )

    def write(folder: Path, version: str) -> None:
        manifest = bundle.manifest.model_copy(update={"version": version})
        write_bundle(folder, manifest, bundle.detector, bundle.support)

    version = models.add(target, write)
    _report(bundle, estimate, version=version, store=models.root, json=json)


def _report(
    bundle: "Bundle",
    estimate: "SelfEstimate | None",
    *,
    version: str,
    store: Path,
    json: bool,
) -> None:
    from trainer.screen import say, say_facts, say_json

    manifest = bundle.manifest
    assert manifest.system is not None  # noqa: S101 - an adapted bundle has a profile
    support, notes = manifest.support, []
    one_class = support.alerts in {0, support.lines}
    if one_class:
        only = "alerts" if support.alerts else "normal lines"
        notes.append(
            f"the labels are {only} alone: what was given is remembered, and the base decides "
            "about the rest"
        )
    if known := {manifest.target, manifest.system.name} & set(manifest.sources):
        notes.append(
            f"the base was trained on {', '.join(sorted(known))} itself: figures measured with "
            "it say nothing about a new system"
        )
    if json:
        content: dict[str, Any] = {
            "target": manifest.target,
            "version": version,
            "store": str(store),
            "system": manifest.system.name,
            "base": manifest.base,
            "detector": manifest.detector.kind,
            "sources": list(manifest.sources),
            "support": support.model_dump(),
            "one_class": one_class,
            "threshold": manifest.threshold.model_dump(),
            "figures": manifest.figures,
            "contradicted": _contradicted(bundle, estimate),
            "settings": manifest.settings,
            "notes": notes,
        }
        say_json(content)
        return
    normal = support.templates - support.alert_templates
    say(f"{manifest.target}: version {version} is stored in {store} and in use")
    say_facts(
        [
            ("learnt from", f"{support.lines:,} lines, {support.alerts:,} of them alerts"),
            ("templates", f"{support.alert_templates} of alerts, {normal} of normal lines"),
            ("lines split by", manifest.system.name),
            ("detector", manifest.detector.kind),
            ("base", f"{manifest.base}, trained on {', '.join(manifest.sources)}"),
            ("threshold", f"{manifest.threshold.value}, {manifest.threshold.chosen}"),
            *(_estimated(bundle, estimate) if estimate else []),
            *(("note", note) for note in notes),
        ]
    )


def _estimated(bundle: "Bundle", estimate: "SelfEstimate") -> list[tuple[str, str]]:
    """What is printed of a model's estimate of itself."""
    facts = [
        ("precision", f"{estimate.precision} templates taken for alerts, each left out in turn"),
        ("recall", f"{estimate.recall} templates of alerts, each left out in turn"),
        ("beside logreg", f"says something else of {estimate.disagreement} templates"),
    ]
    if count := len(estimate.contradicted):
        facts.append(("contradicted", f"{count} labels; have another look at the first of them"))
    doubtful = _contradicted(bundle, estimate)[:_SHOWN]
    return facts + [("", f"{one['label']}: {one['template']}") for one in doubtful]


def _contradicted(bundle: "Bundle", estimate: "SelfEstimate | None") -> list[dict[str, str]]:
    """The templates whose label the others contradict, the most doubtful first."""
    found = []
    for row in estimate.contradicted if estimate else []:
        given = bundle.support.row(row, named=True)
        label = "alert" if given["alert"] else "normal"
        found.append({"template": given["template"], "label": label})
    return found
