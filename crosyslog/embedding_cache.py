"""Every template is encoded once: a bounded memory in front of a file that processes share."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sqlite3
import threading
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic, perf_counter, sleep
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

log = logging.getLogger(__name__)

#: Seconds that a piece of the work is to take: nobody waits longer than a quarter of a second for
#: a piece to end, and the next one holds longer texts.
_PIECE_S = 0.15

#: Texts of the first piece, before it is known what the encoder can do, and of the largest.
_FIRST_PIECE, _LARGEST_PIECE = 16, 512

#: SQLite takes at most this many values in one query, on the oldest builds.
_QUERY_VALUES = 900

#: Seconds to wait for another process that writes: a batch of vectors takes far less.
_PATIENCE_S = 10.0
_RETRY_S = 0.02


class VectorSource(Protocol):
    """What the cache asks of an encoder."""

    @property
    def id(self) -> str:
        """Names model, pooling and numeric class."""

    @property
    def dim(self) -> int:
        """The length of a vector."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of the texts."""


@dataclass
class CacheCounts:
    """Look-ups since the start, one a distinct template and batch."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0


class EmbeddingCache:
    """The vectors of templates, of one encoder after another, each in a file of its own.

    The file is keyed by a digest, so it holds no log text. It is SQLite in WAL mode: safe for
    several processes and for a crash in the middle of a write. A file that is damaged all the
    same is put aside and begun anew: it can only cost time.
    """

    def __init__(self, folder: Path | None = None, max_entries: int = 200_000) -> None:
        """Opens nothing yet.

        Args:
            folder: where the files live; without one, vectors live in memory alone.
            max_entries: how many vectors stay in memory (768 bytes each for MiniLM); the least
                recently used ones go first.
        """
        self.counts = CacheCounts()
        self._folder = folder
        self._max_entries = max_entries
        self._memory: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()
        self._files: dict[str, sqlite3.Connection] = {}
        self._lock = threading.Lock()
        self._piece = _FIRST_PIECE

    def __len__(self) -> int:
        return len(self._memory)

    def vectors(self, templates: Sequence[str], encoder: VectorSource) -> NDArray[np.float32]:
        """The vectors of distinct templates; what is not known yet is encoded and kept.

        Returns:
            float32 [n, dim], rounded to fp16 whether fresh or kept.
        """
        keys = [_digest(template) for template in templates]
        with self._lock:
            known = self._look_up(keys, encoder)
        missing = [row for row, key in enumerate(keys) if key not in known]
        self.counts.hits += len(keys) - len(missing)
        self.counts.misses += len(missing)
        # Short texts beside short ones, as the encoder likes it. A piece is kept as soon as it is
        # there, so that what is given up in the middle goes on from there the next time.
        missing.sort(key=lambda row: len(templates[row]))
        while missing:
            piece, missing = missing[: self._piece], missing[self._piece :]
            began = perf_counter()
            fresh = encoder.encode([templates[row] for row in piece]).astype(np.float16)
            if len(piece) == self._piece:
                self._piece = _next_piece(len(piece), perf_counter() - began)
            added = {keys[row]: fresh[place].tobytes() for place, row in enumerate(piece)}
            known.update(added)
            with self._lock:
                self._keep(added, encoder.id)
        if not keys:
            return np.empty((0, encoder.dim), dtype=np.float32)
        packed = b"".join(known[key] for key in keys)
        return np.frombuffer(packed, np.float16).reshape(len(keys), -1).astype(np.float32)

    def close(self) -> None:
        """Closes the files."""
        with self._lock:
            for connection in self._files.values():
                connection.close()
            self._files.clear()

    def _look_up(self, keys: Sequence[bytes], encoder: VectorSource) -> dict[bytes, bytes]:
        encoder_id, size = encoder.id, 2 * encoder.dim
        known: dict[bytes, bytes] = {}
        asked = []
        for key in keys:
            vector = self._memory.get((encoder_id, key))
            if vector is None:
                asked.append(key)
            else:
                self._memory.move_to_end((encoder_id, key))
                known[key] = vector
        connection = self._file(encoder_id) if asked else None
        if connection is None:
            return known
        found: dict[bytes, bytes] = {}
        try:
            for start in range(0, len(asked), _QUERY_VALUES):
                part = asked[start : start + _QUERY_VALUES]
                marks = ",".join("?" * len(part))
                found.update(
                    connection.execute(
                        f"SELECT key, vector FROM vectors WHERE key IN ({marks})",  # noqa: S608 - marks alone
                        part,
                    )
                )
        except sqlite3.OperationalError as error:
            # Held by another process, or not readable just now: that is no damage.
            log.warning("the embedding cache could not be read: %s", error)
            return known
        except sqlite3.DatabaseError as error:
            self._put_aside(encoder_id, error)
            return known
        found = {key: vector for key, vector in found.items() if len(vector) == size}
        self._remember(found, encoder_id)
        return known | found

    def _keep(self, added: dict[bytes, bytes], encoder_id: str) -> None:
        self._remember(added, encoder_id)
        connection = self._file(encoder_id)
        if connection is None:
            return
        try:
            with connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO vectors (key, vector) VALUES (?, ?)", added.items()
                )
        except sqlite3.OperationalError as error:
            # A full disk or a file that another process holds: the vectors stay in memory.
            log.warning("the embedding cache could not be written: %s", error)
        except sqlite3.DatabaseError as error:
            self._put_aside(encoder_id, error)

    def _remember(self, vectors: dict[bytes, bytes], encoder_id: str) -> None:
        for key, vector in vectors.items():
            self._memory[encoder_id, key] = vector
        while len(self._memory) > self._max_entries:
            self._memory.popitem(last=False)
            self.counts.evictions += 1

    def _file(self, encoder_id: str) -> sqlite3.Connection | None:
        if self._folder is None:
            return None
        if encoder_id not in self._files:
            try:
                self._files[encoder_id] = _open(self._path(encoder_id), encoder_id)
            except (OSError, sqlite3.OperationalError) as error:
                log.warning(
                    "no embedding cache in %s (%s): vectors are kept in memory alone",
                    self._folder,
                    error,
                )
                self._folder = None
                return None
            except sqlite3.DatabaseError as error:
                self._put_aside(encoder_id, error)
                return None
        return self._files[encoder_id]

    def _path(self, encoder_id: str) -> Path:
        assert self._folder is not None  # noqa: S101 - only asked for where there is a folder
        # The digest keeps ids apart that are alike in what a file's name may hold.
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", encoder_id)
        return self._folder / f"{name}-{_digest(encoder_id).hex()[:8]}.sqlite"

    def _put_aside(self, encoder_id: str, error: sqlite3.DatabaseError) -> None:
        connection = self._files.pop(encoder_id, None)
        if connection is not None:
            connection.close()
        path = self._path(encoder_id)
        aside = path.with_suffix(".damaged")
        try:
            for ending in ("", "-wal", "-shm"):
                part = path.with_name(path.name + ending)
                if part.exists():
                    part.replace(aside.with_name(aside.name + ending))
        except OSError as reason:
            log.warning(
                "the embedding cache %s is damaged (%s) and cannot be put aside (%s): vectors "
                "are kept in memory alone",
                path,
                error,
                reason.strerror,
            )
            self._folder = None
        else:
            log.warning("the embedding cache %s is damaged (%s): begun anew", path, error)


def _next_piece(texts: int, seconds: float) -> int:
    """How many texts to encode next, after so many took so long."""
    fitting = texts * _PIECE_S / max(seconds, 1e-9)
    return max(1, min(int(fitting), 2 * texts, _LARGEST_PIECE))


def _digest(template: str) -> bytes:
    return hashlib.blake2b(template.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _open(path: Path, encoder_id: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # SQLite would make the file readable by all; vectors tell about log text.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=_PATIENCE_S, check_same_thread=False)
    try:
        _log_ahead(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS vectors "
            "(key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
        )
        _claim(connection, encoder_id)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Sets the write-ahead log; SQLite does not wait by itself where others begin the file, too."""
    deadline = monotonic() + _PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if monotonic() > deadline:
                raise
            sleep(_RETRY_S)
        else:
            return


def _claim(connection: sqlite3.Connection, encoder_id: str) -> None:
    """Writes whose vectors a new file holds, and refuses one that holds another encoder's.

    Somebody may have copied or renamed it: its vectors would pass for this encoder's, and so
    would those of a file that does not say whose they are.
    """
    connection.execute("CREATE TABLE IF NOT EXISTS encoder (id TEXT PRIMARY KEY)")
    if _owner(connection) is None:
        with connection:
            # Another process that begins the same file must not come in between.
            connection.execute("BEGIN IMMEDIATE")
            if _owner(connection) is None:
                if connection.execute("SELECT 1 FROM vectors LIMIT 1").fetchone():
                    raise sqlite3.DatabaseError("it does not say whose vectors it holds")
                connection.execute("INSERT INTO encoder VALUES (?)", (encoder_id,))
    if (owner := _owner(connection)) != encoder_id:
        raise sqlite3.DatabaseError(f"it holds vectors of {owner}")


def _owner(connection: sqlite3.Connection) -> str | None:
    owners = [row[0] for row in connection.execute("SELECT id FROM encoder ORDER BY id")]
    return " and ".join(map(str, owners)) or None
