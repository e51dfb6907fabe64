"""Writes the pages of docs/ that say what the code says: every command's help, and every setting.

`python -m deploy.docs` writes docs/commands.md and docs/settings.md; with `--check` it writes
nothing and names each that is not what it would write.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

import agent.cli
import trainer.cli
from agent.settings import Settings, describe_settings
from crosyslog.locations import user_cache, user_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.settings import Described

DOCS = Path(__file__).resolve().parents[1] / "docs"

#: The commands, by the name that a user types.
PROGRAMS = {"trainer": trainer.cli.app, "crosyslog-agent": agent.cli.app}

#: What typer takes of a terminal of 80 columns; a page does not depend on who writes it.
_COLUMNS = 78

_MADE = "<!-- Made by `python -m deploy.docs`: change the code, and run it again. -->\n"

_COMMANDS = """\
# Commands

What `--help` says, command by command. What they are for: [the README](../README.md#use-it), and
the page of each that it names. A command that goes wrong by something you can mend says so in one
line on standard error and ends with status 2.
"""

_SETTINGS = """\
# Settings of the agent

From the weakest to the strongest: the defaults, a TOML file (`--config FILE`), the environment, the
command line (`--set kafka.group_id=mine`; the commonest have options of their own). An unknown or
impossible setting stops the start, in one line that says what is allowed.
`crosyslog-agent settings` lists all of them with the values that are in force.

```toml
# crosyslog.toml, for crosyslog-agent --config crosyslog.toml
[kafka]
topic = "web-logs"
bootstrap_servers = "kafka-1:9092,kafka-2:9092"

[batch]
linger = "200ms"
```

A duration is a number of seconds, or one with `ms`, `s`, `m` or `h` behind it. A secret is never
taken from the command line: it comes from its variable, or from a file that the variable with
`_FILE` behind its name points to, as container platforms mount it. `trainer` reads
`CROSYSLOG_MODEL__STORE` and `CROSYSLOG_ENCODER__CACHE`, too, and `CROSYSLOG_DATA`, the folder of
logs that it fetched or prepared. Folders that are not set are the user's own: `~/.local/share` and
`~/.cache` stand for `XDG_DATA_HOME` and `XDG_CACHE_HOME` where these are set.
"""


def commands_page() -> str:
    """docs/commands.md: the help of every command and subcommand."""
    parts = [_MADE, _COMMANDS]
    for level, name, text in helps():
        parts.append(f"{'#' * level} `{name}`\n```text\n{text}\n```\n")
    return "\n".join(parts)


def helps() -> Iterator[tuple[int, str, str]]:
    """Every command: how deep its heading lies (from 2), its name in full, and its help."""
    for program, app in PROGRAMS.items():
        command = typer.main.get_command(app)
        context = typer.Context(command, info_name=program, terminal_width=_COLUMNS)
        yield from _helps(2, program, context)


def _helps(level: int, name: str, context: typer.Context) -> Iterator[tuple[int, str, str]]:
    command = context.command
    yield level, name, command.get_help(context)
    if not isinstance(command, TyperGroup):
        return
    for word, inner in command.commands.items():
        # It knows what it is called by the contexts above it.
        below = typer.Context(inner, parent=context, info_name=word)
        yield from _helps(level + 1, f"{name} {word}", below)


def settings_page() -> str:
    """docs/settings.md: every setting with its default, its variable and what is allowed."""
    parts = [_MADE, _SETTINGS]
    described = describe_settings(Settings.model_construct())
    for part, field in Settings.model_fields.items():
        purpose = (field.annotation.__doc__ or "").splitlines()[0]
        rows = [_row(one) for one in described if one.name.startswith(f"{part}.")]
        head = "| setting | default | variable | |\n|---|---|---|---|"
        parts.append(f"## {part}\n{purpose}\n\n{head}\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(setting: Described) -> str:
    # The folders of whoever writes the page are nobody else's.
    places = {
        str(user_store()): "~/.local/share/crosyslog/models",
        str(user_cache()): "~/.cache/crosyslog",
    }
    default = setting.default
    shown = "not set" if default is None else f"`{places.get(default, default)}`"
    cells = (f"`{setting.name}`", shown, f"`{setting.environment}`", setting.description)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


#: The pages, by their name in docs/.
PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "settings.md": settings_page,
}


def stale(folder: Path = DOCS) -> list[str]:
    """The pages that are not what they would be now, sorted."""
    return sorted(
        name
        for name, page in PAGES.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != page()
    )


def main(arguments: Sequence[str] | None = None, folder: Path = DOCS) -> int:
    """Writes the pages, or checks them.

    Returns:
        The exit status: 1 where `--check` finds a page that is not current.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only look; status 1 if any is old")
    if parser.parse_args(arguments).check:
        names = stale(folder)
        for name in names:
            print(f"docs/{name} is not current: run python -m deploy.docs", file=sys.stderr)
        return 1 if names else 0
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
