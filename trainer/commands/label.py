"""`trainer label`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crosyslog.errors import SettingError
from crosyslog.store import DEFAULT_BASE

if TYPE_CHECKING:
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
        typer.Option(metavar="PROFILE", help="how lines split  [default: the target's name]"),
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
    store: Annotated[Path | None, typer.Option(metavar="DIR", help="where labels are kept")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="report as JSON, with --suggest or --answers")
    ] = False,
) -> None:
    """Asks for the labels that teach most, in rounds, and keeps each; goes on where it stopped."""
    _check(log, suggest, output, answers)
    if asks := suggest is None and answers is None:
        _check_terminal(json=json)
    from crosyslog.locations import default_store
    from crosyslog.store import Store, base_path
    from trainer.template_labels import Answers

    kept = Store(store or default_store()).labels(target)
    start = base_path(base, "evidence")
    with Answers.alone(kept) as book:
        from trainer.label_sheets import take_in, write_suggestions

        done: dict[str, Any] = {}
        if log is None:
            done["taken"] = take_in(answers, [], book) if answers is not None else 0
            _report(target, book, None, done, json=json)
            return
        from trainer.template_labels import record_system
        from trainer.whole_logs import read_whole

        profile = _profile(target, system, log, kept)
        history = read_whole(log, profile)
        record_system(kept, profile)
        if answers is not None:
            done["taken"] = take_in(answers, history.templates, book)

        from crosyslog.bundle import load_bundle
        from crosyslog.threads import torch_threads
        from trainer.example_lines import Examples
        from trainer.label_screen import ask
        from trainer.labelling import labelling_of
        from trainer.screen import say, say_facts

        labelling, examples = (
            labelling_of(history, load_bundle(start), book),
            Examples(log, history),
        )
        with torch_threads(1):
            if suggest is not None and output is not None:
                asked = labelling.suggestions(suggest)
                write_suggestions(output, labelling, asked, examples)
                done |= {"suggested": len(asked), "output": str(output)}
            elif asks:
                say(f"{log.name}: {len(history):,} lines of {len(history.templates):,} templates")
                facts = [("lines split by", profile.name)]
                facts += [("answers so far", str(len(book.last())))] if len(book) else []
                say_facts(facts)
                ask(labelling, examples)
            _report(target, book, labelling, done, json=json)


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


def _check_terminal(*, json: bool) -> None:
    """Refuses to ask where nobody can answer."""
    if json:
        raise SettingError("--json goes with --suggest or --answers: questions are no JSON")
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        raise SettingError(
            "label asks in a terminal, and this is none: use --suggest N --output FILE.csv, fill "
            "the file in, and give it back with --answers FILE.csv"
        )


def _profile(target: str, system: str | None, log: Path, kept: Path) -> "System":
    """The given profile, else the one that the labels so far were made by, else by the name."""
    from trainer.labelled_logs import system_of
    from trainer.template_labels import recorded_system

    recorded = recorded_system(kept) if system is None and kept.exists() else None
    return recorded or system_of(target, system, log)


def _report(
    target: str,
    book: "Answers",
    labelling: "Labelling | None",
    done: dict[str, Any],
    *,
    json: bool,
) -> None:
    """Says what was done, and where the labelling stands."""
    from dataclasses import asdict

    from trainer.label_screen import facts_of
    from trainer.screen import say, say_facts, say_json
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
        say(f"{done['taken']} answers are taken in")
    if "suggested" in done:
        say(
            f"{done['suggested']} templates are in {done['output']}: fill in the column `label` "
            "(alert, normal or unsure), then give it to --answers"
        )
    facts = [("labels", ", ".join(f"{count} {word}" for word, count in labels.items()))]
    facts = facts_of(progress) if progress is not None else facts
    say("")
    say(f"{target}: {len(given)} templates have an answer")
    say_facts([*facts, ("kept in", str(book.path)), ("next", _next(target, given))])


def _next(target: str, given: "list[bool | None]") -> str:
    """What to do with the labels there are."""
    if not {True, False} & set(given):
        return "there is nothing to learn from yet"
    return f"`trainer adapt --target {target}` learns from them; the same command goes on asking"
