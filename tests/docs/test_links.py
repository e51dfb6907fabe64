"""Links between pages lead somewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.markdown import ROOT, anchors, links, pages

if TYPE_CHECKING:
    from pathlib import Path


def broken(page: Path) -> list[str]:
    """The links of a page that lead to no file, or to no heading of one."""
    found = []
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    assert broken(page) == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One `thing`: a test\n## Two\n## Two\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md#one-thing-a-test) [b](other.md#two-1) [c](#here) [d](gone.md)\n"
        "[e](other.md#two-2) [f](#there) `[g](code.md)` [h](https://example.org/#x)\n"
        "```text\n[i](fenced.md)\n```\n"
    )
    assert broken(page) == ["gone.md", "other.md#two-2", "#there"]


def test_the_index_of_docs_leads_to_every_page() -> None:
    docs = ROOT / "docs"
    linked = {(docs / link.partition("#")[0]).resolve() for link in links(docs / "README.md")}
    assert set(docs.glob("*.md")) - {docs / "README.md"} <= linked


def test_the_readme_leads_to_the_index_of_docs() -> None:
    assert any(link.removesuffix("README.md") == "docs/" for link in links(ROOT / "README.md"))
