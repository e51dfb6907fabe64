"""Labelled lines as numbers of templates: what a log and a prepared folder both come down to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from crosyslog.errors import LabelError
from crosyslog.masking import mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.embedding_cache import EmbeddingCache, VectorSource
    from crosyslog.manifest import EncoderReference

#: Templates that are encoded between two movements of a progress bar: about half a second.
_ENCODED_AT_ONCE = 256


@dataclass(frozen=True)
class KnownVectors:
    """Vectors that were computed before: the encoder of their texts, and of no others.

    Attributes:
        encoder: what computed them.
        rows: of each text, the row of its vector.
        vectors: float16 [T, D].
    """

    encoder: EncoderReference
    rows: Mapping[str, int]
    vectors: NDArray[np.float16]

    @property
    def id(self) -> str:
        """The encoder's."""
        return self.encoder.id

    @property
    def name(self) -> str:
        """The encoder's."""
        return self.encoder.name

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self.encoder.dim

    @property
    def device(self) -> str:
        """Where there is nothing to load."""
        return "cpu"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts that are known, float32 [n, D]."""
        return self.vectors[[self.rows[text] for text in texts]].astype(np.float32)


@dataclass(frozen=True)
class LabelledLines:
    """The labelled lines of a log in the order they were written.

    Attributes:
        templates: the distinct ones, in the order in which they are first seen.
        rows: of each line, the number of its template.
        labels: of each line, whether it is an alert.
        offsets: of each line, its place among all lines of the log, those without label included.
        vectors: of the templates, where they are known already.
        hosts: of each line, a number for its host (`host_numbers`), where hosts are known.
    """

    templates: list[str]
    rows: NDArray[np.int64]
    labels: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    vectors: KnownVectors | None = None
    hosts: NDArray[np.uint32] | None = None

    def __len__(self) -> int:
        return len(self.rows)


class TemplateNumbers:
    """Gives each distinct template a number, in the order in which they are first seen."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def of(self, templates: pl.Series) -> NDArray[np.int64]:
        """The number of each template; new ones get the next."""
        import polars as pl

        numbers = self._numbers
        distinct = templates.unique(maintain_order=True)
        # `len` is read before the template is put in: a new one gets the number that is next.
        own = [numbers.setdefault(template, len(numbers)) for template in distinct]
        if not own:
            return np.empty(0, dtype=np.int64)
        return templates.replace_strict(distinct, pl.Series(own, dtype=pl.Int64)).to_numpy()

    def templates(self) -> list[str]:
        """The templates by their number."""
        return list(self._numbers)


def number_lines(lines: pl.DataFrame, name: str, normal: str = "-") -> LabelledLines:
    """The labelled lines of a frame; lines without a label are left out.

    Args:
        lines: `text` and `label`, and `offset` where the frame is not the whole log.
        name: how an error calls the log.
        normal: the label of a normal line, for that error.

    Raises:
        LabelError: no line has a label.
    """
    import polars as pl

    if "offset" not in lines.columns:
        lines = lines.with_row_index("offset")
    labelled = lines.filter(pl.col("label").is_not_null())
    if labelled.is_empty():
        raise no_labels(name, normal)
    numbers = TemplateNumbers()
    rows = numbers.of(mask(labelled["text"]))
    return LabelledLines(
        numbers.templates(),
        rows,
        labelled["label"].to_numpy().astype(np.bool_),
        labelled["offset"].to_numpy().astype(np.int64),
        hosts=host_numbers(labelled["host"]) if "host" in labelled.columns else None,
    )


def host_numbers(hosts: pl.Series) -> NDArray[np.uint32]:
    """A number for each line's host, the same everywhere: the CRC-32 of its name, 0 without one."""
    import polars as pl

    distinct = hosts.unique()
    numbers = [crc32((host or "").encode()) for host in distinct]
    return (
        hosts.replace_strict(distinct, pl.Series(numbers, dtype=pl.UInt32))
        .to_numpy()
        .astype(np.uint32)
    )


def no_labels(name: str, normal: str) -> LabelError:
    """What is raised where no line of a log has a label."""
    return LabelError(
        f"no line of {name} has a label: a labelled log starts each line with {normal!r} or an "
        "alert tag; `trainer systems check` shows how a profile splits a file"
    )


def encode_in_pieces(
    templates: Sequence[str], encoder: VectorSource, cache: EmbeddingCache
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """The vectors of distinct templates, a few hundred at a time, so that memory stays bounded.

    Yields:
        Rows of `templates`, and their vectors: short texts first, since a batch of an encoder is
        as slow as its longest text.
    """
    order = np.argsort([len(template) for template in templates], kind="stable")
    for start in range(0, len(order), _ENCODED_AT_ONCE):
        rows = order[start : start + _ENCODED_AT_ONCE]
        yield rows, cache.vectors([templates[row] for row in rows.tolist()], encoder)
