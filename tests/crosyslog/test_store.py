from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from crosyslog.errors import BundleCorruptError, StoreError
from crosyslog.store import (
    Store,
    base_names,
    base_path,
    find_model,
    open_store,
    target_of_topic,
)
from tests.fakes import add_tiny_model, tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def one_line(action: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_text(folder: Path, version: str) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text(version, encoding="utf-8")


def test_a_store_that_is_not_there_is_empty(store: Store) -> None:
    assert store.targets() == []
    assert store.versions("spirit") == []
    assert store.current("spirit") is None
    assert store.next_version("spirit") == "0001"
    assert not store.root.exists()


def test_what_is_added_is_current_until_another_is_used(store: Store) -> None:
    assert [store.add("spirit", write_text) for _ in range(3)] == ["0001", "0002", "0003"]
    assert store.add("bgl", write_text) == "0001"
    assert store.targets() == ["bgl", "spirit"]
    assert (store.current("spirit"), store.next_version("spirit")) == ("0003", "0004")
    store.use("spirit", "0001")
    assert store.current("spirit") == "0001"
    assert store.path("spirit", "0001") == store.root / "spirit" / "0001"
    assert (store.path("spirit", "0002") / "manifest.json").read_text(encoding="utf-8") == "0002"


def test_versions_are_counted_not_spelled(store: Store) -> None:
    for version in ("9999", "10000"):
        (store.root / "spirit").mkdir(parents=True, exist_ok=True)
        write_text(store.root / "spirit" / version, version)
    assert store.versions("spirit") == ["9999", "10000"]
    assert store.add("spirit", write_text) == "10001"


def test_the_oldest_are_removed_and_never_the_current_one(store: Store) -> None:
    for _ in range(5):
        store.add("spirit", write_text)
    store.use("spirit", "0002")
    assert store.remove("spirit", keep=9) == []
    assert store.remove("spirit", keep=5) == []
    assert store.remove("spirit", keep=2) == ["0001", "0003"]
    assert store.versions("spirit") == ["0002", "0004", "0005"]
    assert store.remove("spirit", keep=0) == ["0004", "0005"]
    assert (store.versions("spirit"), store.current("spirit")) == (["0002"], "0002")
    assert one_line(lambda: store.remove("bgl", keep=1)) == f"bgl has no bundle in {store.root}"


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_bundle_that_fails_in_the_middle_leaves_nothing(
    store: Store, failure: BaseException
) -> None:
    def write(folder: Path, version: str) -> None:
        write_text(folder, version)
        raise failure

    store.add("spirit", write_text)
    for target in ("spirit", "bgl"):
        with pytest.raises(type(failure)):
            store.add(target, write)
    assert store.targets() == ["spirit"]
    assert (store.versions("spirit"), store.current("spirit")) == (["0001"], "0001")
    assert sorted(path.name for path in (store.root / "spirit").iterdir()) == ["0001", "current"]


def test_a_bundle_is_not_there_before_it_is_whole(store: Store) -> None:
    seen = []

    def write(folder: Path, version: str) -> None:
        write_text(folder, version)
        seen.append((store.versions("spirit"), store.current("spirit")))

    store.add("spirit", write)
    assert seen == [([], None)]


def test_writers_at_once_get_versions_of_their_own(store: Store) -> None:
    together = threading.Barrier(4)

    def write(folder: Path, version: str) -> None:
        write_text(folder, version)
        if version == "0001":
            together.wait(timeout=10)

    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda _: store.add("spirit", write), range(4)))
    assert sorted(versions) == store.versions("spirit") == ["0001", "0002", "0003", "0004"]
    assert store.current("spirit") in versions
    for version in versions:
        content = (store.path("spirit", version) / "manifest.json").read_text(encoding="utf-8")
        assert content == version


def test_current_is_replaced_as_a_whole(store: Store) -> None:
    for _ in range(2):
        store.add("spirit", write_text)
    done = threading.Event()
    seen = set()

    def read() -> None:
        while not done.is_set():
            seen.add(store.current("spirit"))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for number in range(200):
            store.use("spirit", f"000{number % 2 + 1}")
        done.set()
        reading.result(timeout=10)
    assert seen <= {"0001", "0002"}
    assert not list(store.root.rglob(".*"))


@pytest.mark.parametrize(
    "target", ["", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "a\n", "é", "a\x00", "x" * 201]
)
def test_a_target_that_is_no_name_is_refused_in_one_line(store: Store, target: str) -> None:
    for action in (
        lambda: store.add(target, write_text),
        lambda: store.versions(target),
        lambda: store.current(target),
        lambda: store.use(target, "0001"),
        lambda: store.remove(target, keep=1),
    ):
        assert one_line(action).startswith(f"{target!r} cannot name a target")
    assert not store.root.exists()


def test_a_version_that_is_not_there_is_named_in_one_line(store: Store) -> None:
    store.add("spirit", write_text)
    for version in ("0002", "1", "../0001", ""):
        message = f"spirit has no version {version!r} in {store.root}: it has 0001"
        assert one_line(partial(store.use, "spirit", version)) == message
    assert "it has none" in one_line(lambda: store.path("bgl", "0001"))
    assert store.current("spirit") == "0001"


def test_a_current_that_names_nothing_is_told_with_what_to_do(store: Store) -> None:
    store.add("spirit", write_text)
    for content in (b"", b"../../x", b"\xff\xfe", b"1"):
        (store.root / "spirit" / "current").write_bytes(content)
        one_line(lambda: store.current("spirit"))
    (store.root / "spirit" / "current").write_text("../0001", encoding="utf-8")
    assert "`trainer models use spirit VERSION`" in one_line(lambda: store.current("spirit"))


@pytest.mark.parametrize("current", [None, "0007"])
def test_a_target_of_which_no_version_is_in_use_never_falls_back_to_a_base(
    store: Store, current: str | None
) -> None:
    add_tiny_model(store, "spirit")
    pointer = store.root / "spirit" / "current"
    if current is None:
        pointer.unlink()
    else:
        pointer.write_text(current, encoding="ascii")
    message = one_line(lambda: find_model(store, "spirit"))
    assert "none of the versions of spirit" in message
    assert "(0001): choose one with `trainer models use spirit VERSION`" in message


def test_a_store_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    store = Store(tmp_path / "file")
    message = f"the store {store.root} is no folder: name another one"
    assert one_line(lambda: store.add("spirit", write_text)) == message
    assert one_line(store.targets) == message


def test_bundles_are_the_owners_alone(store: Store) -> None:
    add_tiny_model(store, "spirit")
    for path in store.root.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_the_current_bundle_of_a_target_is_its_model(store: Store, tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "base", kind="base")
    for threshold in (0.5, 0.7):
        add_tiny_model(store, "ours", system="spirit", threshold=threshold)
    model = find_model(store, "ours", base=str(tmp_path / "base"))
    assert (model.adapted, model.system.name) == (True, "spirit")
    assert model.bundle.manifest.threshold.value == 0.7
    store.use("ours", "0001")
    assert find_model(store, "ours").bundle.manifest.threshold.value == 0.5
    add_tiny_model(store, "ours", system=None)
    assert find_model(store, "ours").system.name == "plain"


@pytest.mark.parametrize(
    ("target", "system"),
    [("spirit", "spirit"), ("bgl", "bgl"), ("ours", "plain"), ("../x", "plain"), ("", "plain")],
)
def test_without_one_the_base_is_with_the_profile_of_that_name(
    store: Store, tmp_path: Path, target: str, system: str
) -> None:
    tiny_bundle(tmp_path / "base", kind="base", target="a-base")
    model = find_model(store, target, base=str(tmp_path / "base"))
    assert (model.adapted, model.system.name) == (False, system)
    assert model.bundle.manifest.target == "a-base"


def test_a_damaged_model_is_no_reason_to_use_a_base(store: Store, tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "base", kind="base")
    version = add_tiny_model(store, "spirit")
    (store.path("spirit", version) / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BundleCorruptError):
        find_model(store, "spirit", base=str(tmp_path / "base"))


def test_an_unknown_base_is_named_in_one_line(store: Store) -> None:
    message = one_line(lambda: find_model(store, "spirit", base="no-such-base"))
    assert message.startswith("there is no base 'no-such-base': ")


def test_the_shipped_bases_can_be_found_by_name() -> None:
    for name in base_names():
        assert base_path(name).joinpath("manifest.json").is_file()


@pytest.mark.parametrize(
    ("topic", "target"),
    [
        ("spirit-logs", "spirit"),
        ("spirit_logs", "spirit"),
        ("spirit.logs", "spirit"),
        ("spirit", "spirit"),
        ("logs", "logs"),
        ("-logs", "-logs"),
        ("a-logs-logs", "a-logs"),
        ("spirit-logs-2", "spirit-logs-2"),
    ],
)
def test_a_topic_stands_for_a_target(topic: str, target: str) -> None:
    assert target_of_topic(topic) == target


@pytest.mark.parametrize("location", ["s3:/bucket/models", "file:/models", "gs:/bucket"])
def test_a_url_with_a_slash_too_few_makes_no_folder_of_that_name(location: str) -> None:
    with pytest.raises(StoreError, match="s3://bucket/path"):
        open_store(location)
