"""Reads a page of an evaluation as a browser would."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Elements of HTML that have no end.
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """What a reader finds on a page, and what a browser would be told by it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags = Counter[str]()
        self.attributes: list[tuple[str, str, str]] = []
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self.title = self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)
        if tag in {"h1", "h2"}:
            self.headings.append("")
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "title" in self._open:
            self.title += data
        if {"h1", "h2"} & set(self._open):
            self.headings[-1] += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    def rows_of(self, method: str) -> list[list[str]]:
        """The rows of all tables that begin with a method, its mark left out."""
        return [row for row in self.rows if row[0].split(" not honest")[0] == method]

    def must_ask_for_nothing(self) -> None:
        """Fails if a browser would request or run anything for the page."""
        assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(self.tags)
        for name in ("src", "href", "xlink:href", "srcset", "action", "background", "poster"):
            assert all(value.startswith("#") for value in self.values(name)), name
        assert not [name for _, name, _ in self.attributes if name.startswith("on")]
        assert self.source.count("url(") == self.source.count("url(#")
        assert "@import" not in self.source
        assert "default-src 'none'" in self.values("content")[0]

    def values(self, name: str) -> list[str]:
        """Those of an attribute, wherever it is."""
        return [value for _, found, value in self.attributes if found == name]

    @property
    def words(self) -> str:
        """The text with a single blank wherever the source folds its lines."""
        return " ".join(self.text.split())
