from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from crosyslog.embedding_cache import EmbeddingCache
from tests.fakes import HashVectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]

TEMPLATES = ["disk # failed", "session opened for user", ""]


@pytest.fixture
def encoder() -> HashVectors:
    return HashVectors()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def look_up(folder: Path | None, encoder: HashVectors, templates: list[str]) -> NDArray[np.float32]:
    """The vectors, by a cache that knows only what the folder holds."""
    cache = EmbeddingCache(folder)
    try:
        return cache.vectors(templates, encoder)
    finally:
        cache.close()


def counts(cache: EmbeddingCache) -> tuple[int, int, int]:
    return cache.counts.hits, cache.counts.misses, cache.counts.evictions


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def program(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that imports the cache."""
    before = """
import sys
from pathlib import Path
from crosyslog.embedding_cache import EmbeddingCache
from tests.fakes import HashVectors
"""
    return subprocess.Popen(
        [sys.executable, "-c", before + code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_template_is_encoded_once(encoder: HashVectors) -> None:
    cache = EmbeddingCache()
    first = cache.vectors(TEMPLATES, encoder)
    again = cache.vectors([*TEMPLATES[::-1], "new"], encoder)
    assert sorted(encoder.encoded) == sorted([*TEMPLATES, "new"])
    assert counts(cache) == (3, 4, 0)
    np.testing.assert_array_equal(first, again[2::-1])
    np.testing.assert_array_equal(first, HashVectors().encode(TEMPLATES))
    assert cache.vectors([], encoder).shape == (0, 16)


def test_many_templates_come_back_in_their_order(folder: Path, encoder: HashVectors) -> None:
    templates = [f"{'word ' * (number % 7)}{number}" for number in range(2_500)]
    expected = encoder.encode(templates)
    np.testing.assert_array_equal(look_up(folder, encoder, templates), expected)
    np.testing.assert_array_equal(look_up(folder, encoder, templates[::-1]), expected[::-1])


def test_memory_is_bounded_and_the_least_recently_used_goes_first(encoder: HashVectors) -> None:
    cache = EmbeddingCache(max_entries=3)
    cache.vectors(["a", "b", "c"], encoder)
    cache.vectors(["a"], encoder)
    cache.vectors(["d"], encoder)
    assert len(cache) == 3
    assert counts(cache) == (1, 4, 1)
    encoder.encoded.clear()
    cache.vectors(["a", "c", "d"], encoder)
    assert encoder.encoded == []
    cache.vectors(["b"], encoder)
    assert encoder.encoded == ["b"]


def test_a_batch_may_be_larger_than_the_memory(folder: Path, encoder: HashVectors) -> None:
    cache = EmbeddingCache(folder, max_entries=2)
    templates = [f"template {number}" for number in range(50)]
    for _ in range(2):
        np.testing.assert_array_equal(
            cache.vectors(templates, encoder), HashVectors().encode(templates)
        )
    assert len(cache) == 2
    assert counts(cache)[:2] == (50, 50)
    cache.close()


def test_vectors_outlive_the_process(folder: Path, encoder: HashVectors) -> None:
    fresh = look_up(folder, encoder, TEMPLATES)
    encoder.encoded.clear()
    np.testing.assert_array_equal(look_up(folder, encoder, TEMPLATES), fresh)
    assert encoder.encoded == []


@pytest.mark.parametrize("other", ["a-b", "a b", "a/b", "A:B"])
def test_vectors_of_another_encoder_are_never_returned(folder: Path, other: str) -> None:
    cache = EmbeddingCache(folder)
    one, two = HashVectors("a:b"), HashVectors(other)
    cache.vectors(TEMPLATES, one)
    cache.vectors(TEMPLATES, two)
    assert two.encoded == sorted(TEMPLATES, key=len)
    cache.close()
    third = HashVectors(other, dim=8)
    assert look_up(folder, third, TEMPLATES).shape == (3, 8)


def test_a_file_under_another_encoders_name_is_not_read(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = HashVectors("one"), HashVectors("other")
    look_up(folder, one, TEMPLATES)
    (ours,) = files(folder)
    expected = look_up(folder, other, TEMPLATES)
    (theirs,) = set(files(folder)) - {ours}
    theirs.write_bytes(ours.read_bytes())
    for _ in range(2):
        np.testing.assert_array_equal(look_up(folder, other, TEMPLATES), expected)
    assert [m for m in caplog.messages if "it holds vectors of fake:one:16" in m]
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(("each", "largest"), [(0.0001, 512), (0.001, 150), (0.03, 16), (0.5, 16)])
def test_a_piece_takes_no_longer_than_somebody_waits(
    encoder: HashVectors, monkeypatch: pytest.MonkeyPatch, each: float, largest: int
) -> None:
    clock, pieces = [0.0], []

    class Slow(HashVectors):
        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            clock[0] += each * len(texts)
            pieces.append(len(texts))
            return super().encode(texts)

    monkeypatch.setattr("crosyslog.embedding_cache.perf_counter", lambda: clock[0])
    cache, slow = EmbeddingCache(), Slow()
    for batch in range(2):
        texts = [f"template {number} of {batch}" for number in range(3_000)]
        np.testing.assert_array_equal(cache.vectors(texts, slow), encoder.encode(texts))
    assert sum(pieces) == 6_000
    assert max(pieces) == largest
    # After the first one, which finds out how fast it goes.
    assert max(pieces[1:]) * each <= 0.25 or max(pieces[1:]) == 1


def test_files_are_the_owners_alone_and_hold_no_log_text(
    folder: Path, encoder: HashVectors
) -> None:
    cache = EmbeddingCache(folder)
    cache.vectors(["the password is swordfish"], encoder)
    found = list(files(folder))
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not any(b"swordfish" in path.read_bytes() for path in found)
    cache.close()
    assert not any(b"swordfish" in path.read_bytes() for path in files(folder))


@pytest.mark.parametrize("damage", ["no database", "middle", "empty table"])
def test_a_damaged_file_is_put_aside_and_begun_anew(
    folder: Path, encoder: HashVectors, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    templates = [f"template {number}" for number in range(2_000)]
    expected = look_up(folder, encoder, templates)
    (path,) = files(folder)
    content = bytearray(path.read_bytes())
    if damage == "no database":
        content = bytearray(b"this was never a database" * 1_000)
    elif damage == "middle":
        content[4096:-4096] = os.urandom(len(content) - 8192)
    else:
        content[100:4096] = bytes(3996)
    path.write_bytes(content)
    cache = EmbeddingCache(folder)
    for _ in range(2):
        np.testing.assert_array_equal(cache.vectors(templates, encoder), expected)
    cache.close()
    assert any("is damaged" in message for message in caplog.messages)
    assert [p.suffix for p in files(folder)].count(".damaged") == 1
    encoder.encoded.clear()
    np.testing.assert_array_equal(look_up(folder, encoder, templates), expected)
    assert encoder.encoded == []


def damage_of(folder: Path, encoder: HashVectors) -> Path:
    look_up(folder, encoder, TEMPLATES)
    (path,) = files(folder)
    path.write_bytes(b"this was never a database" * 1_000)
    return path


@pytest.mark.parametrize("way", ["something in the way", "read only"])
def test_a_damaged_file_that_cannot_be_put_aside_leaves_memory(
    folder: Path,
    encoder: HashVectors,
    way: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = damage_of(folder, encoder)
    if way == "something in the way":
        path.with_suffix(".damaged").mkdir()
    else:
        # Root may write everywhere, so that the mode of a folder proves nothing.
        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.replace", refuse)
    cache = EmbeddingCache(folder)
    encoder.encoded.clear()
    for _ in range(3):
        cache.vectors(TEMPLATES, encoder)
    cache.close()
    assert len(encoder.encoded) == 3
    (message,) = caplog.messages
    assert "cannot be put aside" in message
    assert message.endswith("vectors are kept in memory alone")


def test_a_file_that_does_not_say_whose_vectors_it_holds_is_put_aside(
    folder: Path, encoder: HashVectors, caplog: pytest.LogCaptureFixture
) -> None:
    expected = look_up(folder, encoder, TEMPLATES)
    (path,) = files(folder)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM encoder")
        connection.execute("UPDATE vectors SET vector = zeroblob(length(vector))")
    connection.close()
    for _ in range(2):
        np.testing.assert_array_equal(look_up(folder, encoder, TEMPLATES), expected)
    (message,) = caplog.messages
    assert "it does not say whose vectors it holds" in message
    assert path.with_suffix(".damaged").is_file()


def test_a_vector_of_another_length_is_encoded_again(folder: Path, encoder: HashVectors) -> None:
    expected = look_up(folder, encoder, TEMPLATES)
    (path,) = files(folder)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE vectors SET vector = substr(vector, 1, 9)")
    connection.close()
    np.testing.assert_array_equal(look_up(folder, encoder, TEMPLATES), expected)
    encoder.encoded.clear()
    np.testing.assert_array_equal(look_up(folder, encoder, TEMPLATES), expected)
    assert encoder.encoded == []


def test_a_folder_that_cannot_be_written_leaves_memory(
    tmp_path: Path, encoder: HashVectors, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file" / "cache")
    for _ in range(3):
        cache.vectors(TEMPLATES, encoder)
    assert counts(cache) == (6, 3, 0)
    assert [message for message in caplog.messages if "vectors are kept in memory" in message]
    assert len(caplog.messages) == 1


def test_a_file_that_another_process_keeps_to_itself_is_not_damaged(
    folder: Path, encoder: HashVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crosyslog.embedding_cache._PATIENCE_S", 0.1)
    cache = EmbeddingCache(folder)
    cache.vectors(TEMPLATES, encoder)
    (path,) = folder.glob("*.sqlite")
    cache.close()
    holder = sqlite3.connect(path)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    holder.execute("DELETE FROM vectors")
    assert look_up(folder, encoder, TEMPLATES).shape == (3, 16)
    holder.rollback()
    holder.close()
    encoder.encoded.clear()
    look_up(folder, encoder, TEMPLATES)
    assert encoder.encoded == []
    assert not list(folder.glob("*.damaged"))


def test_a_full_disk_leaves_memory(folder: Path) -> None:
    # A limit on the size of files stands for the disk: writing fails in the middle of a batch.
    full = program(
        """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
cache, encoder = EmbeddingCache(Path(sys.argv[1])), HashVectors(dim=384)
for batch in range(3):
    for repeat in range(2):
        cache.vectors([f"template {number} of {batch}" for number in range(300)], encoder)
print("calls", cache.counts.hits, cache.counts.misses, len(encoder.encoded))
""",
        folder,
    )
    output = full.communicate(timeout=60)[0]
    assert "calls 900 900 900" in output, output
    encoder = HashVectors(dim=384)
    look_up(folder, encoder, [f"template {number} of 0" for number in range(300)])
    assert not list(folder.glob("*.damaged"))


def test_several_that_begin_a_file_at_once_all_use_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    together = threading.Barrier(4)

    def begin(folder: Path) -> None:
        cache = EmbeddingCache(folder)
        together.wait()
        cache.vectors(TEMPLATES, HashVectors())
        cache.close()

    for attempt in range(40):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        threads = [threading.Thread(target=begin, args=(folder,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert caplog.messages == []


def test_two_processes_share_a_file(folder: Path) -> None:
    writers = [
        program(
            """
cache, encoder = EmbeddingCache(Path(sys.argv[1])), HashVectors()
for batch in range(40):
    cache.vectors([f"template {(batch * 25 + n) % 900} {sys.argv[2] if n % 2 else ''}"
                   for n in range(50)], encoder)
cache.close()
""",
            folder,
            name,
        )
        for name in ("one", "other")
    ]
    assert [writer.communicate(timeout=60)[0] for writer in writers] == ["", ""]
    encoder = HashVectors()
    shared = [f"template {number} " for number in range(0, 900, 2)]
    np.testing.assert_array_equal(look_up(folder, encoder, shared), encoder.encode(shared))
    owns = [f"template {number} {name}" for number in (1, 3) for name in ("one", "other")]
    encoder.encoded.clear()
    look_up(folder, encoder, owns)
    assert encoder.encoded == []


def test_a_process_that_is_killed_while_writing_leaves_a_readable_file(folder: Path) -> None:
    victim = program(
        """
from itertools import count
cache, encoder = EmbeddingCache(Path(sys.argv[1])), HashVectors()
for batch in count():
    cache.vectors([f"template {batch * 20 + number}" for number in range(20)], encoder)
""",
        folder,
    )
    deadline = time.monotonic() + 30
    while not list(folder.glob("*-wal")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    victim.send_signal(signal.SIGKILL)
    output = victim.communicate(timeout=10)[0]
    assert victim.returncode == -signal.SIGKILL, output
    encoder = HashVectors()
    templates = [f"template {number}" for number in range(40)]
    np.testing.assert_array_equal(
        look_up(folder, encoder, templates), HashVectors().encode(templates)
    )
    assert len(encoder.encoded) < 40
    assert not list(folder.glob("*.damaged"))
