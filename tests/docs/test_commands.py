"""Pages name commands, options, make targets and modules that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup
from typer.exceptions import TyperException

from deploy.docs import PROGRAMS, helps
from tests.docs.markdown import ROOT, blocks, commands, typed, written_pages

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"\$\(([A-Z_]+)\)", MAKEFILE))


def wrong(words: list[str]) -> str | None:
    """What is wrong with a command as a page names it; none if nothing is, or it is not ours."""
    program = Path(words[0]).name
    if program in PROGRAMS:
        return wrong_options(program, words[1:])
    if program == "make":
        return wrong_target(words[1:])
    if program.startswith("python") and words[1:2] == ["-m"] and words[2].startswith("deploy"):
        return None if importlib.util.find_spec(words[2]) else f"no module {words[2]}"
    return None


def wrong_options(program: str, words: list[str]) -> str | None:
    command = typer.main.get_command(PROGRAMS[program])
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    try:
        context = command.make_context(program, list(words))
    except TyperException as error:
        return error.format_message()
    left = [*getattr(context, "_protected_args", ()), *context.args]
    return f"no command {left}" if left else None


def wrong_target(words: list[str]) -> str | None:
    for word in words:
        variable, equals, _ = word.partition("=")
        known = VARIABLES if equals else TARGETS
        if not word.startswith("-") and variable not in known:
            return f"no {'variable' if equals else 'target'} {variable}"
    return None


@pytest.mark.parametrize("page", written_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist_with_their_options(page: Path) -> None:
    found = [
        f"{page.name}, block at line {block.line}: {' '.join(words)}: {reason}"
        for block in blocks(page, "console")
        for line in typed(block)
        for words in commands(line)
        if (reason := wrong(words)) is not None
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "trainer adapt --target web --no-such-option",
        "trainer adopt --target web",
        "trainer models use web",
        "zcat log.gz | trainer prepare --system bgl --log - --outputs x",
        "for x in a; do trainer systems chek plain $x; done",
        "crosyslog-agent --topik web-logs &",
        "crosyslog-agent scann web.log > events",
        ".venv/bin/crosyslog-agent check --topic",
        "make no-such-target",
        "make demo LOGS=x",
        "python -m deploy.no_such_module",
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    assert any(wrong(words) for words in commands(line))


def test_every_command_is_explained_on_a_page_that_people_write() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in written_pages())
    names = [name for _, name, _ in helps()]
    assert len(names) > len(PROGRAMS)
    assert [name for name in names if not re.search(rf"{name}\b", text)] == []
