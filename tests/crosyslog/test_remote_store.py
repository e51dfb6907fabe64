"""A store by URL: what writers at once, and readers, see of it."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from crosyslog.bundle import load_bundle
from crosyslog.errors import StoreError
from crosyslog.remote_objects import RemoteObjects
from crosyslog.store import Store, find_model, open_store
from tests.cloud import URL
from tests.fakes import add_tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from crosyslog.remote_store import RemoteStore
    from tests.cloud import Network

    Machine = Callable[[str], RemoteStore]

CLOUD = "cloud://bucket/models"


def one_line(action: Callable[[], object], kind: type[Exception] = StoreError) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def objects(url: str) -> RemoteObjects:
    return RemoteObjects(url)


def test_what_is_added_on_one_machine_is_in_use_on_another(url: str, machine: Machine) -> None:
    one, two = machine(url), machine(url)
    assert (one.targets(), one.versions("spirit"), one.current("spirit")) == ([], [], None)
    assert (one.in_use("spirit"), one.next_version("spirit")) == (None, "0001")
    assert [add_tiny_model(one, "spirit", seed=seed) for seed in (1, 2)] == ["0001", "0002"]
    assert add_tiny_model(two, "bgl") == "0001"
    for store in (one, two):
        assert store.targets() == ["bgl", "spirit"]
        assert store.versions("spirit") == ["0001", "0002"]
        assert (store.current("spirit"), store.next_version("spirit")) == ("0002", "0003")
    two.use("spirit", "0001")
    assert one.current("spirit") == "0001"
    assert find_model(one, "spirit").bundle.manifest.version == "0001"
    assert load_bundle(one.path("spirit", "0002")).manifest.version == "0002"
    assert one.path("spirit", "0002").is_relative_to(one.root)


def test_a_target_or_version_that_cannot_be_is_refused(url: str, machine: Machine) -> None:
    store = machine(url)
    add_tiny_model(store, "spirit")
    for action in (store.versions, store.current, store.labels, store.in_use):
        assert one_line(partial(action, "../x")).startswith("'../x' cannot name a target")
    for version in ("0002", "1", "../0001", ""):
        message = f"spirit has no version {version!r} in {url}: it has 0001"
        assert one_line(partial(store.use, "spirit", version)) == message
        assert one_line(partial(store.path, "spirit", version)) == message


def test_of_those_who_switch_at_once_one_wins(url: str, machine: Machine) -> None:
    stores = [machine(url) for _ in range(4)]
    for _ in range(4):
        add_tiny_model(stores[0], "spirit")
    together = threading.Barrier(4)
    usual = sys.getswitchinterval()

    def switch(row: int, before: int) -> bool:
        together.wait(timeout=10)
        return stores[row]._switch("spirit", f"000{row + 1}", before)

    sys.setswitchinterval(1e-6)
    try:
        for _ in range(25):
            before, _ = stores[0]._last_switch("spirit")
            with ThreadPoolExecutor(4) as pool:
                won = list(pool.map(partial(switch, before=before), range(4)))
            assert sum(won) == 1
            now_used = f"000{won.index(True) + 1}"
            assert {store.current("spirit") for store in stores} == {now_used}
    finally:
        sys.setswitchinterval(usual)


def test_who_comes_second_is_told_what_is_in_use(cloud: Network, machine: Machine) -> None:
    one, two = machine(URL), machine(URL)
    for _ in range(3):
        add_tiny_model(one, "spirit")

    def between(path: str) -> None:
        if "/switches/" in path and "probe" not in path:
            cloud.written = lambda _: None
            two.use("spirit", "0001")

    cloud.written = between
    message = one_line(lambda: one.use("spirit", "0002"))
    assert "another switch of spirit in cloud://bucket/models came first: 0001 is in use" in message
    assert one.current("spirit") == two.current("spirit") == "0001"
    one.use("spirit", "0002")
    assert two.current("spirit") == "0002"


def test_a_new_version_does_not_overrule_who_goes_back_while_it_is_uploaded(
    cloud: Network, machine: Machine
) -> None:
    one, two = machine(URL), machine(URL)
    for _ in range(2):
        add_tiny_model(one, "spirit")

    def between(path: str) -> None:
        if path.endswith("0003/weights.safetensors"):
            two.use("spirit", "0001")

    cloud.written = between
    message = one_line(lambda: add_tiny_model(one, "spirit"))
    assert "0003 is stored" in message
    assert "`trainer models use spirit 0003` changes that" in message
    assert (one.versions("spirit")[-1], one.current("spirit")) == ("0003", "0001")


def test_who_adds_at_once_gets_a_version_each(url: str, machine: Machine) -> None:
    stores = [machine(url) for _ in range(4)]
    together = threading.Barrier(4)

    def add(row: int) -> str:
        together.wait(timeout=10)
        try:
            return add_tiny_model(stores[row], "spirit", seed=row)
        except StoreError as error:
            # Stored as well; which one is in use was decided by another.
            return str(error).partition(" is stored in ")[0].removeprefix("spirit ")

    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(add, range(4)))
    assert sorted(versions) == stores[0].versions("spirit") == ["0001", "0002", "0003", "0004"]
    for version in versions:
        assert load_bundle(stores[0].path("spirit", version)).manifest.version == version
    assert stores[0].current("spirit") in versions


def test_a_reader_sees_no_version_before_it_is_whole(cloud: Network, machine: Machine) -> None:
    writer, reader = machine(URL), machine(URL)
    add_tiny_model(writer, "spirit")
    seen = []

    def look(path: str) -> None:
        if "/0002/" in path and "claim" not in path:
            seen.append((path.rpartition("/")[2], reader.versions("spirit")))
            assert reader.current("spirit") == "0001"
            assert find_model(reader, "spirit").bundle.manifest.version == "0001"

    cloud.written = look
    add_tiny_model(writer, "spirit")
    assert [name for name, _ in seen][-1] == "manifest.json"
    assert {name for name, _ in seen} > {"weights.safetensors", "support.parquet"}
    assert all(versions == ["0001"] for _, versions in seen)


def test_a_store_that_was_made_anew_is_not_read_from_copies_of_the_old_one(
    url: str, machine: Machine
) -> None:
    writer, reader = machine(url), machine(url)
    add_tiny_model(writer, "spirit", threshold=0.5)
    assert find_model(reader, "spirit").bundle.manifest.threshold.value == 0.5
    objects(url).delete(objects(url).below(""))
    add_tiny_model(writer, "spirit", threshold=0.7)
    assert find_model(reader, "spirit").bundle.manifest.threshold.value == 0.7


def test_processes_that_fetch_at_once_share_a_mirror(url: str, tmp_path: Path) -> None:
    stores = [open_store(url, tmp_path / "cache") for _ in range(4)]
    add_tiny_model(stores[0], "spirit")
    together = threading.Barrier(4)

    def fetch(store: Store) -> Path:
        together.wait(timeout=10)
        return store.path("spirit", "0001")

    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(fetch, stores))
    (folder,) = folders
    assert load_bundle(folder).manifest.version == "0001"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["0001"]


def test_a_bundle_is_fetched_once(cloud: Network, machine: Machine) -> None:
    store = machine(URL)
    add_tiny_model(store, "spirit")
    store.path("spirit", "0001")
    cloud.calls.clear()
    store.path("spirit", "0001")
    assert cloud.calls == ["cat_file"]  # its manifest alone


def test_to_look_is_one_call(cloud: Network, machine: Machine) -> None:
    store, other = machine(URL), machine(URL)
    for _ in range(3):
        add_tiny_model(other, "spirit")
    store.current("spirit")
    cloud.calls.clear()
    assert store.current("spirit") == "0003"
    assert cloud.calls == ["ls"]
    other.use("spirit", "0002")
    cloud.calls.clear()
    assert store.current("spirit") == "0002"
    assert cloud.calls == ["ls", "cat_file"]


def test_copies_are_the_owners_alone_and_few(url: str, machine: Machine) -> None:
    store = machine(url)
    for _ in range(6):
        add_tiny_model(store, "spirit")
        store.in_use("spirit")
    for path in [store.root.parent, store.root, *store.root.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert Store(store.root).versions("spirit") == ["0004", "0005", "0006"]


def test_files_of_a_file_url_are_the_owners_alone(tmp_path: Path, machine: Machine) -> None:
    add_tiny_model(machine((tmp_path / "a" / "b").as_uri()), "spirit")
    paths = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert len(paths) > 6
    for path in paths:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_the_oldest_are_removed_and_never_the_current_one(url: str, machine: Machine) -> None:
    store = machine(url)
    for _ in range(5):
        add_tiny_model(store, "spirit")
    store.use("spirit", "0002")
    assert store.remove("spirit", keep=5) == []
    assert store.remove("spirit", keep=2) == ["0001", "0003"]
    assert store.versions("spirit") == ["0002", "0004", "0005"]
    assert store.remove("spirit", 1, lambda version: version != "0005") == []
    assert store.remove("spirit", keep=0) == ["0004", "0005"]
    assert (store.versions("spirit"), store.current("spirit")) == (["0002"], "0002")
    # No number is given twice: somebody may have a copy of the bundle that had it.
    assert add_tiny_model(store, "spirit") == "0006"
    assert one_line(lambda: store.remove("bgl", keep=1)) == f"bgl has no bundle in {url}"


def test_a_version_that_comes_into_use_while_it_is_removed_stays(
    cloud: Network, machine: Machine
) -> None:
    one, two = machine(URL), machine(URL)
    for _ in range(3):
        add_tiny_model(one, "spirit")
    before, _ = two._last_switch("spirit")
    # It was there when the other one looked for it.
    sound: Callable[[str], bool] = lambda _: two._switch("spirit", "0001", before) or True  # noqa: E731
    assert cloud.fault is None
    assert one.remove("spirit", keep=1, sound=sound) == ["0002"]
    assert (one.versions("spirit"), one.current("spirit")) == (["0001", "0003"], "0001")
    assert load_bundle(two.path("spirit", "0001")).manifest.version == "0001"


def test_who_uses_what_is_being_removed_is_told(cloud: Network, machine: Machine) -> None:
    one, two = machine(URL), machine(URL)
    for _ in range(2):
        add_tiny_model(one, "spirit")

    def between(path: str) -> None:
        if "/switches/" in path and "probe" not in path:
            cloud.written = lambda _: None
            assert two.remove("spirit", keep=1) == ["0001"]

    cloud.written = between
    message = one_line(lambda: one.use("spirit", "0001"))
    assert "0001 was removed while it was put in use, and 0002 is in use" in message
    # What was in use before is so again: an agent that starts has a model.
    assert one.current("spirit") == two.current("spirit") == "0002"
    assert find_model(two, "spirit").bundle.manifest.version == "0002"


def test_who_goes_back_from_what_was_removed_overrules_nobody(
    cloud: Network, machine: Machine
) -> None:
    one, two = machine(URL), machine(URL)
    for _ in range(3):
        add_tiny_model(one, "spirit")
    switches = []

    def between(path: str) -> None:
        if "/switches/" in path and "probe" not in path:
            switches.append(path)
            if len(switches) == 1:
                assert two.remove("spirit", keep=2) == ["0001"]
            elif len(switches) == 2:
                two.use("spirit", "0002")

    cloud.written = between
    message = one_line(lambda: one.use("spirit", "0001"))
    assert "0001 was removed while it was put in use, and 0002 is in use" in message
    assert len(switches) == 3  # there, back, and the other one's
    assert one.current("spirit") == two.current("spirit") == "0002"


def test_who_adds_what_is_being_removed_is_told(cloud: Network, machine: Machine) -> None:
    one, two = machine(URL), machine(URL)
    add_tiny_model(one, "spirit")

    def between(path: str) -> None:
        if path.endswith("/switches/00000002"):
            cloud.written = lambda _: None
            # A third one is stored meanwhile, so that this one is old, and not in use yet.
            for name in ("claim", "manifest.json"):
                objects(URL).write(f"spirit/0003/{name}", b"{}")
            assert two.remove("spirit", keep=1) == ["0002"]

    cloud.written = between
    message = one_line(lambda: add_tiny_model(one, "spirit"))
    assert "0002 was removed while it was put in use, and 0001 is in use" in message
    assert (two.versions("spirit"), two.current("spirit")) == (["0001", "0003"], "0001")


def test_what_another_one_removes_and_puts_back_is_left_to_it(
    cloud: Network, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cloud.buckets
    store, switcher = machine(URL), machine(URL)
    for _ in range(3):
        add_tiny_model(store, "spirit")
    # Old enough to be abandoned, were it not whole.
    old = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    objects(URL).write("spirit/0001/claim", f"x {old}\n".encode())
    before, _ = switcher._last_switch("spirit")
    place = "spirit/0001/manifest.json"
    manifest = objects(URL).read(place)
    assert manifest is not None

    def other_begins(_: str) -> bool:
        """After the look: the other one has deleted it, and has not looked again."""
        objects(URL).delete([place])
        return True

    delete = store._objects.delete

    def other_ends(paths: Iterable[str]) -> None:
        """Before anything is deleted: it came into use, and the other one puts it back."""
        if switcher._switch("spirit", "0001", before):
            objects(URL).write(place, manifest)
        delete(paths)

    monkeypatch.setattr(store._objects, "delete", other_ends)
    assert store.remove("spirit", keep=2, sound=other_begins) == []
    assert switcher.versions("spirit") == ["0001", "0002", "0003"]
    assert find_model(switcher, "spirit").bundle.manifest.version == "0001"
    assert "spirit/0001/claim" in objects(URL).below("spirit")


@pytest.mark.parametrize("back", ["before", "after"])
def test_what_another_one_puts_back_is_not_tidied(
    cloud: Network, machine: Machine, monkeypatch: pytest.MonkeyPatch, back: str
) -> None:
    assert cloud.buckets
    store, switcher = machine(URL), machine(URL)
    for _ in range(3):
        add_tiny_model(store, "spirit")
    before, _ = switcher._last_switch("spirit")
    place = "spirit/0001/manifest.json"
    manifest = objects(URL).read(place)
    assert manifest is not None
    tidy = store._tidy

    def late(target: str, removed: Iterable[str], seen: set[str]) -> None:
        """The version came into use, so that another one who was removing it puts it back."""
        assert switcher._switch("spirit", "0001", before)
        if back == "before":
            objects(URL).write(place, manifest)
            assert switcher._switch("spirit", "0003", before + 1)
        tidy(target, removed, seen)
        objects(URL).write(place, manifest)

    monkeypatch.setattr(store, "_tidy", late)
    store.remove("spirit", keep=2)
    assert load_bundle(switcher.path("spirit", "0001")).manifest.version == "0001"


def test_a_writer_that_slept_while_old_switches_were_tidied_has_lost(
    url: str, machine: Machine
) -> None:
    store, sleeper = machine(url), machine(url)
    for _ in range(2):
        add_tiny_model(store, "spirit")
    before, _ = sleeper._last_switch("spirit")
    for row in range(120):
        store.use("spirit", f"000{1 + row % 2}")
    store.remove("spirit", keep=5)
    numbers = sorted(objects(url).names("spirit/switches"))
    assert (len(numbers), numbers[-1]) == (100, f"{122:08d}")
    assert not sleeper._switch("spirit", "0001", before)
    assert (store.current("spirit"), sleeper.current("spirit")) == ("0002", "0002")
    assert sorted(objects(url).names("spirit/switches")) == numbers


def test_a_folder_that_was_copied_to_a_url_works_as_it_is(
    url: str, machine: Machine, tmp_path: Path
) -> None:
    folder = Store(tmp_path / "store")
    for threshold in (0.5, 0.7, 0.9):
        add_tiny_model(folder, "spirit", threshold=threshold)
    folder.use("spirit", "0002")
    for path in folder.root.rglob("*"):
        if path.is_file():
            objects(url).write(str(path.relative_to(folder.root)), path.read_bytes())
    store = machine(url)
    assert (store.versions("spirit")[-1], store.current("spirit")) == ("0003", "0002")
    assert find_model(store, "spirit").bundle.manifest.threshold.value == 0.7
    store.use("spirit", "0003")
    assert store.current("spirit") == "0003"
    assert add_tiny_model(store, "spirit") == "0004"


def test_labels_stay_on_this_machine(
    cloud: Network, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert machine(URL).labels("spirit").is_relative_to(tmp_path / "data")
    assert not cloud.calls


def test_the_manifest_at_the_url_is_the_bundles_own(url: str, machine: Machine) -> None:
    store = machine(url)
    add_tiny_model(store, "spirit")
    content = objects(url).read("spirit/0001/manifest.json")
    assert content is not None
    assert json.loads(content)["version"] == "0001"
