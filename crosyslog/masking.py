"""Masking: the text of a line becomes its template, by taking out what varies.

Masking is part of a model, since a template that changes has another vector: a bundle carries
`MASKING_VERSION` and refuses to load under another. Raise it with every change of the rules.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

#: Raise it with every change of the rules below.
MASKING_VERSION = "1"

#: The most characters of a template: later words hardly change what a line says.
MAX_CHARACTERS = 200

#: What is replaced, by what, in this order. None looks around, so that each stays a linear scan.
RULES: tuple[tuple[str, str, str], ...] = (
    ("paths and URLs", r"[A-Za-z0-9+.~_:@-]*(?:/[\w.+~@%=-]*)+", "#"),
    ("dotted names: hosts, addresses, versions", r"[\w-]+(?:\.[\w-]+)+", "#"),
    ("tokens that hold a digit", r"[\w:.+-]*\d[\w:.+-]*", "#"),
    # The comma stays: in Liberty it alone tells an alert (`node #, #`) from routine (`node #`).
    # A single space stays as it is: not to replace it by itself takes half of the time away.
    ("runs of other punctuation", r"[^\w#, ](?:,*[^\w#,])*| (?:,*[^\w#,])+", " "),
    ("neighbouring masks", r"#(?: ?#)+", "#"),
)


def mask(texts: pl.Series) -> pl.Series:
    """The template of each text.

    Args:
        texts: strings; a null counts as empty.

    Returns:
        Strings of at most `MAX_CHARACTERS`, in the same order. Masking a template again changes
        nothing.
    """
    import polars as pl

    # Under a name of its own: `pl.col` would read a name such as `^a$` as a pattern.
    masked = pl.col("text").fill_null("")
    for _, pattern, replacement in RULES:
        masked = masked.str.replace_all(pattern, replacement)
    masked = masked.str.strip_chars(" ,").str.slice(0, MAX_CHARACTERS).str.strip_chars(" ,")
    return texts.to_frame("text").select(masked).to_series().rename(texts.name)


@lru_cache(maxsize=10_000)
def template_id(template: str) -> str:
    """A digest that names a template where its text may not, or might change: 16 hex digits."""
    return hashlib.blake2b(template.encode(), digest_size=8).hexdigest()
