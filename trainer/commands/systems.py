"""`trainer systems`: the profiles, and how one splits a log."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import polars as pl

    from crosyslog.systems import System

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
    facts = [("pattern", pattern) for pattern in system.patterns]
    if system.paths is not None:
        facts += [
            (f"path of {name}", ", ".join(tried))
            for name, tried in system.paths.model_dump().items()
            if tried
        ]
    elif not facts:
        facts.append(("pattern", "none: a line is its message"))
    facts.append(("time", ", ".join(system.time.format) if "time" in system.groups else "not read"))
    if system.session is not None:
        facts.append(("session", system.session))
    if system.sessions is not None:
        facts.append(("sessions by", str(system.sessions)))
    facts.append(("judged", " ".join(system.fields.text)))
    if "label" in system.groups:
        facts.append(("normal label", system.fields.normal))
    for example, wrong in zip(system.examples, _wrong_fields(system), strict=True):
        facts += [("example", example.line), ("  is judged as", example.text)]
        if wrong:
            facts.append(("  but its line has", ", ".join(wrong)))
    say_facts(facts)


def _wrong_fields(system: "System") -> list[list[str]]:
    """For each example of a profile, the fields that its line has and the example does not say."""
    import polars as pl

    from crosyslog.lines import split

    wrong = []
    for example in system.examples:
        # Read on the day that it names, which says the year of a time without one.
        now = datetime.fromisoformat(example.time) if example.time is not None else None
        line = split(pl.Series([example.line]), system, now).row(0, named=True)
        said = example.model_dump(exclude={"line"})
        if example.label is not None:
            said["label"] = example.label != system.fields.normal
        if example.time is not None:
            said["time"] = datetime.fromisoformat(example.time)
        found = [f"{name} {line[name]!s}" for name in said if line[name] != said[name]]
        wrong.append(found if line["split"] else ["not split"])
    return wrong


@app.command()
def check(
    context: typer.Context,
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="a system, or a TOML file")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="a log, or `-` for standard input")],
    *,
    json: JsonOption = False,
) -> None:
    """Shows how a profile splits the lines of a log, and the first line that it does not."""
    from crosyslog.systems import load_system
    from trainer.screen import say, say_facts, say_json

    system = load_system(profile)
    name = "standard input" if file == "-" else file
    found = _look_through(file, system, name)
    wrong = {
        number: fields for number, fields in enumerate(_wrong_fields(system), start=1) if fields
    }
    if json or context.obj:
        report: dict[str, object] = {
            "system": system.name,
            "lines": found.lines,
            "split": found.split,
            "first_unsplit": found.first_unsplit,
            "labels": found.labels,
        }
        if "time" in system.groups:
            since, until = (
                (when.isoformat() for when in found.times) if found.times else (None,) * 2
            )
            report["times"] = {"first": since, "last": until, "none": found.without_time}
        if "session" in system.groups:
            report["sessions"] = len(found.sessions)
            report["without_session"] = found.without_session
        report["wrong_examples"] = [
            {"number": number, "line_has": fields} for number, fields in wrong.items()
        ]
        say_json(report)
        return
    say(f"{name} read as {system.name}")
    share = found.split / found.lines
    facts = [("lines", f"{found.lines:,}"), ("split", f"{found.split:,} ({share:.1%})")]
    if first := found.first_unsplit:
        facts.append(("first that did not", f"line {first['number']}: {first['text']}"))
    if "time" in system.groups:
        facts.append(("times", found.period))
    facts.append(("labels", ", ".join(f"{count:,} {name}" for name, count in found.labels.items())))
    if "session" in system.groups:
        facts.append(
            ("sessions", f"{len(found.sessions):,}, and {found.without_session:,} lines of none")
        )
    if wrong:
        count = f"{len(wrong)} of the profile's {len(system.examples)}"
        facts.append(("wrong examples", f"{count}: see `trainer systems show {profile}`"))
    say_facts(facts)


@dataclass
class _Findings:
    """What the lines of a log are, as far as they have been looked at."""

    lines: int = 0
    split: int = 0
    first_unsplit: dict[str, int | str] | None = None
    labels: dict[str, int] = field(default_factory=lambda: {"alert": 0, "normal": 0, "none": 0})
    sessions: set[str] = field(default_factory=set)
    without_session: int = 0
    times: list[datetime] = field(default_factory=list)
    without_time: int = 0

    @property
    def period(self) -> str:
        """The first and the last time, and how many lines have none."""
        if not self.times:
            return "none was read"
        first, last = (f"{when.replace(tzinfo=None)!s:.19}" for when in self.times)
        return f"{first} to {last} UTC, and {self.without_time:,} lines of none"

    def add(self, lines: "pl.DataFrame") -> None:
        """Looks at the next lines."""
        split = int(lines["split"].sum())
        if split < lines.height and self.first_unsplit is None:
            row = int((~lines["split"]).arg_max() or 0)
            text = str(lines["raw"][row])[:_SHOWN]
            self.first_unsplit = {"number": self.lines + row + 1, "text": text}
        self.lines += lines.height
        self.split += split
        self.labels["alert"] += int(lines["label"].sum())
        self.labels["normal"] += int((~lines["label"]).sum())
        self.labels["none"] += lines["label"].null_count()
        self.sessions |= set(lines["session"].drop_nulls().unique().to_list())
        self.without_session += lines["session"].null_count()
        times = lines["time"].drop_nulls()
        self.without_time += lines.height - len(times)
        if len(times):
            extremes = [*self.times, *times.sort().gather([0, -1]).to_list()]
            self.times = [min(extremes), max(extremes)]


def _look_through(file: str, system: "System", name: str) -> _Findings:
    """Reads a log piece by piece: it may be larger than the memory, and so may many lines of it."""
    from crosyslog.errors import InputError
    from crosyslog.lines import decode, split
    from trainer.log_batches import batches

    found = _Findings()
    for batch in batches(file):
        found.add(split(decode(batch), system))
    if not found.lines:
        raise InputError(f"{name} is empty: a log with at least one line is needed")
    return found
