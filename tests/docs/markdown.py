"""What tests ask of the Markdown pages: their fenced blocks, commands, headings and links."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

#: Pages that a program writes: that they name a thing does not explain it.
GENERATED = {"commands.md", "settings.md"}

_FENCE = re.compile(
    r"^(?P<fence>```+)(?P<language>[\w-]*)\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.*?) *$", re.MULTILINE)

#: Words of a shell before a command.
_KEYWORDS = {"do", "then", "else", "if", "until", "while", "!", "time"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: behind the fence.
        text: between the fences.
        line: of the page, counted from 1, where the text begins.
    """

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """Every page for readers: those beside the README, and all below docs/."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def written_pages() -> list[Path]:
    """Those that people write and that explain: the README and docs/, less what is generated."""
    docs = [page for page in pages() if ROOT / "docs" in page.parents]
    return [ROOT / "README.md", *(page for page in docs if page.name not in GENERATED)]


def blocks(page: Path, language: str) -> list[Block]:
    """The fenced blocks of a language, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["text"], text.count("\n", 0, found.start("text")) + 1)
        for found in _FENCE.finditer(text)
        if found["language"] == language
    ]


def typed(block: Block) -> list[str]:
    """The lines that a reader types: those behind `$ ` if there are any, else all.

    A line that ends in a backslash goes on with the next one.
    """
    lines = block.text.replace("\\\n", " ").splitlines()
    behind_prompt = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return behind_prompt or lines


def commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a line of shell, without assignments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for token in [*lexer, ";"]:
        if skip:
            skip = False
        elif set(token) <= set("<>"):
            skip = True
        elif set(token) <= set("();|&"):
            while words and (words[0] in _KEYWORDS or re.match(r"\w+=", words[0])):
                words.pop(0)
            if words:
                yield words
            words = []
        else:
            words.append(token)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may say behind `#`, as GitHub makes it."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 0
        while (one := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(one)
    return found


def links(page: Path) -> list[str]:
    """Where the page's links lead, those in code left out."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return _LINK.findall(re.sub(r"`[^`\n]*`", "", text))
