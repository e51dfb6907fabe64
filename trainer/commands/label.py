"""`trainer label`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crosyslog.errors import SettingError
from crosyslog.store import DEFAULT_BASE
from trainer.screen import SYSTEM_HELP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crosyslog.store import Store
    from crosyslog.systems import System
    from trainer.labelling import Labelling
    from trainer.template_labels import Answers


def label(
    *,
    target: Annotated[str, typer.Option(metavar="NAME", help="the system that is labelled")],
    log: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="a log of it, or a prepared one; needs no labels"),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help=SYSTEM_HELP),
    ] = None,
    suggest: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="ask for N templates in a file, not here"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the file to be filled in, as CSV")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="take in such a file once it is filled in")
    ] = None,
    base: Annotated[
        str, typer.Option(metavar="NAME", help="what guesses: a shipped base, or a folder")
    ] = DEFAULT_BASE,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="where labels are kept; those for a URL stay on this machine"
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="report as JSON, with --suggest or --answers")
    ] = False,
) -> None:
    """Asks for the labels that teach most, in rounds, and keeps each; goes on where it stopped."""
    _check(log, suggest, output, answers)
    if asks := suggest is None and answers is None:
        _check_terminal(log, json=json)
    from crosyslog.locations import default_store
    from crosyslog.store import base_path, open_store
    from trainer.template_labels import Answers

    models = open_store(store or default_store())
    models.versions(target)  # refuses a store that is away: its profile would be missed in silence
    kept = models.labels(target)
    start = base_path(base, "evidence")
    with Answers.alone(kept) as book:
        from trainer.example_lines import Examples, identity_of
        from trainer.given_support import absent_notes
        from trainer.label_sheets import take_in, write_suggestions
        from trainer.screen import note, say, say_facts
        from trainer.template_labels import record_system
        from trainer.whole_logs import read_whole

        done: dict[str, Any] = {}
        profile, notes = _profile(target, system, log, models)
        for said in notes:
            note(said)
        seen = identity_of(log) if log is not None else None
        history = read_whole(log, profile) if log is not None and profile is not None else None
        if profile is not None:
            record_system(kept, profile)
            done["system"] = profile.name
        if answers is not None:
            done["taken"] = take_in(answers, history.templates if history else [], book)
            for said in absent_notes(history, book.labels()):
                note(said)
        if log is None or history is None:
            _report(target, book, None, done, None, json=json)
            return

        from crosyslog.bundle import load_bundle
        from crosyslog.threads import torch_threads
        from trainer.label_screen import ask
        from trainer.labelling import labelling_of

        labelling, examples = (
            labelling_of(history, load_bundle(start), book),
            Examples(log, history, seen),
        )
        with torch_threads(1):
            if suggest is not None and output is not None:
                asked = labelling.suggestions(suggest)
                write_suggestions(output, labelling, asked, examples)
                done |= {"suggested": len(asked), "output": str(output)}
            if asks:
                say(f"{log.name}: {len(history):,} lines of {len(history.templates):,} templates")
                facts = [("lines split by", done["system"])]
                facts += [("answers so far", str(len(book.last())))] if len(book) else []
                say_facts(facts)
                ask(labelling, examples)
            _report(target, book, labelling, done, log, json=json)


def _check(
    log: Path | None, suggest: int | None, output: Path | None, answers: Path | None
) -> None:
    """Refuses options that do not go together, before any work."""
    if (suggest is None) != (output is None):
        raise SettingError(
            "--suggest N and --output FILE.csv belong together: how many, and where to"
        )
    if log is None and (suggest is not None or answers is None):
        raise SettingError(
            "there is nothing to ask about: give a log of the system with --log FILE"
        )
    if output is not None and output.exists():
        raise SettingError(f"--output {output} exists already: name a file that is to be made")
    if output is not None and not output.absolute().parent.is_dir():
        raise SettingError(f"--output {output}: its folder does not exist")


def _check_terminal(log: Path | None, *, json: bool) -> None:
    """Refuses to ask where nobody can answer, or about nothing."""
    if log is not None and not log.exists():
        raise SettingError(f"--log {log}: there is no such file")
    if json:
        raise SettingError("--json goes with --suggest or --answers: questions are no JSON")
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        raise SettingError(
            "label asks in a terminal, and this is none: use --suggest N --output FILE.csv, fill "
            "the file in, and give it back with --answers FILE.csv"
        )


def _profile(
    target: str, system: str | None, log: Path | None, store: "Store"
) -> "tuple[System | None, Sequence[str]]":
    """The profile of the lines; answers alone are templates already, and need none."""
    from trainer.given_support import profile_of
    from trainer.template_labels import recorded_system

    if log is None and system is None:
        return recorded_system(store.labels(target)), ()
    return profile_of(target, system, log, store)


def _report(
    target: str,
    book: "Answers",
    labelling: "Labelling | None",
    done: dict[str, Any],
    log: Path | None,
    *,
    json: bool,
) -> None:
    """Says what was done, where the labelling stands, and what comes next.

    Args:
        target: the system.
        book: the answers.
        labelling: what they are about, where there is a log.
        done: what was done, by the names that JSON has.
        log: it, where there is one.
        json: as JSON.
    """
    from dataclasses import asdict

    from trainer.label_screen import facts_of
    from trainer.screen import count_of, say, say_facts, say_json
    from trainer.template_labels import word_of

    progress = labelling.progress() if labelling is not None else None
    given = list(book.last().values())
    labels = {word_of(label): given.count(label) for label in (False, True, None)}
    if json:
        content = {"target": target, "file": str(book.path), "labels": labels, **done}
        if progress is not None:
            said = asdict(progress)
            content |= {name: said[name] for name in ("coverage", "precision", "recall")}
            content["contradicted"] = [
                {"template": template, "label": word_of(alert)}
                for template, alert in progress.contradicted
            ]
        say_json(content)
        return
    if "taken" in done:
        none = ": the column `label` is empty" if not done["taken"] else ""
        say(f"{count_of(done['taken'], 'answer')} taken in{none}")
    if "suggested" in done:
        say(f"{count_of(done['suggested'], 'template')} written to {done['output']}")
    facts = [("labels", ", ".join(f"{count} {word}" for word, count in labels.items()))]
    facts = facts_of(progress) if progress is not None else facts
    if "system" in done:
        facts.append(("lines split by", done["system"]))
    if given:
        facts.append(("kept in", str(book.path)))
    say("")
    say(f"{target}: {count_of(len(given), 'template')} answered")
    say_facts([*facts, ("next", _next(target, given, done, log))])


def _next(target: str, given: "list[bool | None]", done: dict[str, Any], log: Path | None) -> str:
    """What to do with the labels there are, or to come to some."""
    if "suggested" in done:
        sheet = shlex.quote(done["output"])
        return (
            f"fill in the column `label` of {sheet} with alert, normal or unsure, then "
            f"`trainer label --target {target} --answers {sheet}`"
        )
    if not {True, False} & set(given):
        return "there is nothing to learn from yet"
    command = f"trainer adapt --target {target}"
    command += f" --log {shlex.quote(str(log))}" if log is not None else ""
    more = "" if "taken" in done else "; the same command as now goes on asking"
    return f"`{command}` learns from them{more}"
