"""`trainer systems`: the profiles, and how one splits a file."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

JsonOption = Annotated[bool, typer.Option("--json", help="report as JSON")]

#: Characters of a line that are shown; the rest hardly says why it does not split.
_SHOWN = 160


@app.callback(invoke_without_command=True)
def systems(context: typer.Context, *, json: JsonOption = False) -> None:
    """Lists the systems whose logs can be read."""
    context.obj = json
    if context.invoked_subcommand is not None:
        return
    from crosyslog.systems import load_system, system_names
    from trainer.screen import say_facts, say_json

    found = {name: load_system(name).description for name in system_names()}
    if json:
        say_json(found)
    else:
        say_facts(list(found.items()))


@app.command()
def show(
    context: typer.Context,
    profile: Annotated[str, typer.Argument(metavar="NAME|PATH", help="a system, or a TOML file")],
    *,
    json: JsonOption = False,
) -> None:
    """Shows a profile: its pattern, what is judged, and how its examples split."""
    from crosyslog.systems import load_system
    from trainer.screen import say, say_facts, say_json

    system = load_system(profile)
    if json or context.obj:
        say_json(system.model_dump(mode="json"))
        return
    say(f"{system.name}: {system.description}")
    facts = [
        ("pattern", system.pattern or "none: a line is its message"),
        ("time", system.time.format if "time" in system.groups else "not read"),
        ("judged", " ".join(system.fields.text)),
    ]
    if "label" in system.groups:
        facts.append(("normal label", system.fields.normal))
    for example in system.examples:
        facts += [("example", example.line), ("  is judged as", example.text)]
    say_facts(facts)


@app.command()
def check(
    context: typer.Context,
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="a system, or a TOML file")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a log")],
    *,
    json: JsonOption = False,
) -> None:
    """Shows how a profile splits the lines of a file, and the first line that it does not."""
    from crosyslog.lines import read_lines
    from crosyslog.systems import load_system
    from trainer.screen import say, say_facts, say_json

    system = load_system(profile)
    lines = read_lines(file, system)
    split = int(lines["split"].sum())
    first = None
    if split < lines.height:
        row = int((~lines["split"]).arg_max() or 0)
        first = {"number": row + 1, "text": str(lines["raw"][row])[:_SHOWN]}
    labels = {
        "alert": int(lines["label"].sum()),
        "normal": int((~lines["label"]).sum()),
        "none": lines["label"].null_count(),
    }
    if json or context.obj:
        say_json(
            {"system": system.name, "lines": lines.height, "split": split}
            | {"first_unsplit": first, "labels": labels}
        )
        return
    say(f"{file} read as {system.name}")
    facts = [("lines", f"{lines.height:,}"), ("split", f"{split:,} ({split / lines.height:.1%})")]
    if first is not None:
        facts.append(("first that did not", f"line {first['number']}: {first['text']}"))
    facts.append(("labels", ", ".join(f"{count:,} {name}" for name, count in labels.items())))
    say_facts(facts)
