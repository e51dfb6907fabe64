"""`trainer models`: what is in the store, back to an older version, clean up."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crosyslog.errors import BundleError, SettingError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crosyslog.manifest import Manifest
    from crosyslog.store import Store
    from trainer.models import StoredModel

app = typer.Typer()

StoreOption = Annotated[
    str | None, typer.Option(metavar="DIR", help="where models are kept: a folder, or a URL")
]
JsonOption = Annotated[bool, typer.Option("--json", help="report as JSON")]


@dataclass(frozen=True)
class _Given:
    """Options that stand before the subcommand, where they mean the same."""

    store: str | None
    json: bool


@app.callback(invoke_without_command=True)
def models(context: typer.Context, *, store: StoreOption = None, json: JsonOption = False) -> None:
    """Lists the models in the store."""
    context.obj = _Given(store, json)
    if context.invoked_subcommand is not None:
        return
    from trainer.models import stored_versions
    from trainer.screen import say, say_json, say_table

    opened = _store(context, None)
    found = {target: stored_versions(opened, target) for target in opened.targets()}
    if json:
        say_json({target: [_content(model) for model in kept] for target, kept in found.items()})
    elif not found:
        say(f"no model in {opened.location}: `trainer adapt` stores one")
    else:
        headers = ("target", "in use", "made", "labels", "detector", "base", "versions")
        say_table(headers, [_summary(target, kept) for target, kept in found.items()])


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the target")],
    *,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Shows the versions of a target: what each was made from, and how it judges."""
    from trainer.models import stored_versions
    from trainer.screen import say, say_facts, say_json

    opened = _store(context, store)
    found = stored_versions(opened, name)
    if not found:
        raise _nothing(opened, name)
    if json or context.obj.json:
        say_json([_content(model) for model in found])
        return
    for model in found:
        say(f"{name} {model.version}{' (in use)' if model.current else ''}")
        if model.manifest is None:
            say_facts([("broken", model.problem or "")])
            continue
        say_facts(_facts(model.manifest))


@app.command()
def use(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the target")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="one that `show` lists")],
    *,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Puts a version of a target in use; an agent takes it when it starts."""
    from crosyslog.manifest import read_verified
    from trainer.screen import say, say_json

    opened = _store(context, store)
    version = version.zfill(4)  # as versions are written; `1` is what people type
    read_verified(opened.path(name, version))  # a broken one would be put in use for nothing
    opened.use(name, version)
    if json or context.obj.json:
        say_json({"target": name, "current": version})
    else:
        say(f"{name}: version {version} is in use")


@app.command()
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the target")],
    *,
    keep: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="how many of the newest stay; has to be said"),
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Removes old versions of a target, never the one in use.

    A damaged version does not count among those that stay.
    """
    from trainer.screen import say, say_json

    if keep is None:
        raise SettingError(
            "say with --keep N how many of the newest versions stay, as in `trainer models remove "
            f"{name} --keep 1`"
        )
    opened = _store(context, store)
    removed = opened.remove(name, keep, lambda version: _is_sound(opened, name, version))
    if json or context.obj.json:
        say_json({"target": name, "removed": removed, "kept": opened.versions(name)})
    else:
        kept = ", ".join(opened.versions(name))
        say(f"{name}: removed {', '.join(removed) or 'nothing'}; {kept} stay")


def _store(context: typer.Context, given: str | None) -> "Store":
    from crosyslog.locations import default_store
    from crosyslog.store import open_store

    return open_store(given or context.obj.store or default_store())


def _is_sound(store: "Store", name: str, version: str) -> bool:
    from crosyslog.manifest import read_verified

    try:
        read_verified(store.path(name, version))
    except BundleError:
        return False
    return True


def _nothing(store: "Store", name: str) -> StoreError:
    there = ", ".join(store.targets()) or "nothing"
    return StoreError(f"there is no model of {name!r} in {store.location}: it holds {there}")


def _summary(target: str, models: list["StoredModel"]) -> list[str]:
    used = next((model for model in models if model.current), None)
    if used is None:
        return [target, "none", *[""] * 4, str(len(models))]
    if used.manifest is None:
        return [target, used.version, "broken", *[""] * 3, str(len(models))]
    manifest = used.manifest
    return [
        target,
        used.version,
        f"{manifest.created:%Y-%m-%d %H:%M}",
        f"{manifest.support.lines:,}",
        manifest.detector.kind,
        manifest.base or "",
        str(len(models)),
    ]


def _facts(manifest: "Manifest") -> list[tuple[str, str]]:
    """What a model was made from, and how it judges."""
    from crosyslog.manifest import SessionShape
    from trainer.session_facts import chosen_figures, learnt_facts, threshold_text

    support, threshold = manifest.support, manifest.threshold
    if isinstance(manifest.detector, SessionShape):
        learnt, figures = learnt_facts(manifest), chosen_figures(manifest)
        judged_from = threshold_text(threshold)
    else:
        normal = support.templates - support.alert_templates
        learnt = [
            ("learnt from", f"{support.lines:,} labels, {support.alerts:,} of them of alerts"),
            ("templates", f"{support.alert_templates} of alerts, {normal} of normal lines"),
        ]
        figures = _figures(manifest.figures)
        judged_from = f"{threshold.value}, {threshold.chosen}"
    return [
        ("made", f"{manifest.created:%Y-%m-%d %H:%M} UTC by {manifest.command}"),
        *learnt,
        ("lines split by", manifest.system.name if manifest.system else "none"),
        ("detector", manifest.detector.kind),
        ("base", f"{manifest.base}, trained on {', '.join(manifest.sources)}"),
        ("encoder", manifest.encoder.id),
        ("threshold", judged_from),
        *figures,
    ]


def _figures(figures: "Mapping[str, float]") -> list[tuple[str, str]]:
    """What the model said of itself when it was made."""
    facts = []
    for name in ("precision", "recall"):
        if (share := figures.get(f"left_out_{name}")) is not None:
            low, high = (figures[f"left_out_{name}_{end}"] for end in ("low", "high"))
            said = f"{share:.2f} ({low:.2f} to {high:.2f}) on templates of its labels, left out"
            facts.append((name, said))
    return facts


def _content(model: "StoredModel") -> dict[str, Any]:
    content: dict[str, Any] = {"version": model.version, "current": model.current}
    if model.manifest is None:
        return content | {"problem": model.problem}
    # The profile's pattern and examples are no news about the model.
    manifest = model.manifest.model_dump(mode="json", exclude={"system", "version", "files"})
    system = model.manifest.system
    return content | manifest | {"system": system.name if system else None}
