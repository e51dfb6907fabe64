"""What goes wrong with a store by URL: one line, no secret, and nothing half."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from crosyslog.errors import BundleCorruptError, BundleError, StoreAwayError, StoreError
from crosyslog.remote_objects import RemoteObjects
from crosyslog.remote_store import RemoteStore
from crosyslog.store import Store, adapted_model, find_model, open_store
from crosyslog.store_urls import PROTOCOLS
from tests.cloud import URL
from tests.fakes import add_tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_a_folder_stays_a_folder_and_never_meets_fsspec(tmp_path: Path) -> None:
    assert type(open_store(tmp_path)) is Store
    assert type(open_store(str(tmp_path / "s3:" / "x"))) is Store
    program = (
        "import sys; from pathlib import Path; from crosyslog.store import open_store, find_model;"
        f"store = open_store({str(tmp_path)!r}); store.targets(); store.current('x');"
        "import agent.cli, trainer.cli, agent.settings;"
        "assert not {'fsspec', 's3fs', 'gcsfs'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("last", ["support.parquet", "manifest.json"])
def test_who_is_killed_while_adding_leaves_nothing_that_counts(
    cloud: Network, machine: Machine, last: str
) -> None:
    store = machine(URL)
    add_tiny_model(store, "spirit")

    def kill(path: str) -> None:
        if path.endswith(f"0002/{last}"):
            cloud.fault = KeyboardInterrupt()  # nothing more gets through

    cloud.written = kill
    with pytest.raises(KeyboardInterrupt):
        add_tiny_model(store, "spirit")
    cloud.mend()
    other = machine(URL)
    assert (other.versions("spirit"), other.current("spirit")) == (["0001"], "0001")
    # Its number is spent, so that nobody writes where it may still be writing.
    assert add_tiny_model(other, "spirit") == "0003"
    # What it left is removed once it is old.
    other.remove("spirit", keep=1)
    left = f"spirit/0002/{'claim' if last == 'support.parquet' else 'support.parquet'}"
    assert left in objects(URL).below("spirit")
    old = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    objects(URL).write("spirit/0002/claim", f"x {old}\n".encode())
    other.remove("spirit", keep=1)
    assert not [path for path in objects(URL).below("spirit") if "/0002/" in path]


def test_what_cannot_be_uploaded_is_taken_back(cloud: Network, machine: Machine) -> None:
    store = machine(URL)

    def refuse(path: str) -> None:
        if path.endswith("manifest.json"):
            cloud.written = lambda _: None
            raise PermissionError("Access Denied")

    cloud.written = refuse
    assert "no right to use the store" in one_line(lambda: add_tiny_model(store, "spirit"))
    assert objects(URL).below("") == ["models/spirit/0001/claim".removeprefix("models/")]
    assert (store.targets(), store.versions("spirit")) == ([], [])


def test_an_upload_that_is_removed_by_a_clock_that_is_ahead_is_no_success(
    cloud: Network, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = machine(URL), machine(URL)
    add_tiny_model(store, "spirit")

    def ahead(path: str) -> None:
        if path.endswith("0002/manifest.json"):
            with monkeypatch.context() as clock:
                clock.setattr("crosyslog.remote_store._ABANDONED", timedelta(seconds=-1))
                other.remove("spirit", keep=5)

    cloud.written = ahead
    message = one_line(lambda: add_tiny_model(store, "spirit"))
    assert message.startswith("cloud://bucket/models/spirit/0002 was removed while it was uploaded")
    assert "(support.parquet, weights.safetensors)" in message
    assert (other.versions("spirit"), other.current("spirit")) == (["0001"], "0001")
    left = [path for path in objects(URL).below("spirit") if "/0002/" in path]
    assert left == ["spirit/0002/claim"]
    assert find_model(other, "spirit").bundle.manifest.version == "0001"


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_a_model_of_another_target_is_refused(
    url: str, machine: Machine, tmp_path: Path, kind: str
) -> None:
    store = Store(tmp_path / "store") if kind == "folder" else machine(url)
    add_tiny_model(store, "spirit")
    if isinstance(store, RemoteStore):
        for path in objects(url).below("spirit"):
            content = objects(url).read(path)
            assert content is not None
            objects(url).write(f"web/{path.removeprefix('spirit/')}", content)
    else:
        shutil.copytree(store.root / "spirit", store.root / "web")
    message = one_line(lambda: find_model(store, "web"))
    assert message.startswith("web 0001 was adapted to another target, 'spirit': ")
    assert "`trainer adapt --target web`" in message
    # An agent that runs takes it no more than one that starts does.
    folder = store.in_use("web")
    assert folder is not None
    assert one_line(lambda: adapted_model(folder)) == message
    assert find_model(store, "spirit").adapted


def test_an_upload_that_is_torn_is_refused_and_leaves_no_copy(url: str, machine: Machine) -> None:
    writer, reader = machine(url), machine(url)
    add_tiny_model(writer, "spirit")
    place = "spirit/0001/weights.safetensors"
    whole = objects(url).read(place)
    assert whole is not None
    for torn in (whole[:-1], b"", None):
        if torn is None:
            objects(url).delete([place])
        else:
            objects(url).write(place, torn)
        message = one_line(lambda: find_model(reader, "spirit"), BundleCorruptError)
        assert message.startswith(f"the bundle {url}/spirit/0001 is ")
        assert "weights.safetensors" in message
        assert not [path for path in reader.root.rglob("*") if path.is_file()]
    objects(url).write(place, whole)
    assert find_model(reader, "spirit").bundle.manifest.version == "0001"


@pytest.mark.parametrize("manifest", [b"", b"{}", b'{"files": {"../../x": ""}, "checksum": ""}'])
def test_a_manifest_that_is_none_is_refused(
    cloud: Network, machine: Machine, manifest: bytes
) -> None:
    assert cloud.buckets
    store = machine(URL)
    add_tiny_model(store, "spirit")
    objects(URL).write("spirit/0001/manifest.json", manifest)
    message = one_line(lambda: store.path("spirit", "0001"), BundleError)
    assert message.startswith("the bundle cloud://bucket/models/spirit/0001 is corrupted")


@pytest.mark.parametrize("damage", ["flipped", "shortened", "missing", "manifest"])
def test_a_damaged_copy_is_fetched_anew(url: str, machine: Machine, damage: str) -> None:
    store = machine(url)
    add_tiny_model(store, "spirit")
    folder = store.path("spirit", "0001")
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    if damage == "missing":
        weights.unlink()
    elif damage == "manifest":
        (folder / "manifest.json").write_bytes(b"{}")
    else:
        weights.write_bytes(whole[:-1] + (b"!" if damage == "flipped" else b""))
    assert store.path("spirit", "0001") == folder
    assert weights.read_bytes() == whole
    assert not list(store.root.rglob(".new-*"))


def test_an_answer_that_is_lost_is_not_another_writer(cloud: Network, machine: Machine) -> None:
    store = machine(URL)
    add_tiny_model(store, "spirit")
    cloud.lost.add("create")
    assert add_tiny_model(store, "spirit") == "0002"
    cloud.lost.add("create")
    store.use("spirit", "0001")
    assert store.current("spirit") == "0001"


def test_a_place_without_conditional_writes_is_refused_before_anything_is_written(
    cloud: Network, machine: Machine
) -> None:
    cloud.heedless = True
    store = machine(URL)
    assert "knows no conditional writes" in one_line(lambda: add_tiny_model(store, "spirit"))
    assert objects(URL).below("") == []


def test_a_switch_that_names_nothing_is_told_with_what_to_do(url: str, machine: Machine) -> None:
    store = machine(url)
    add_tiny_model(store, "spirit")
    for number, content in enumerate((b"", b"../../x", b"\xff\xfe", b"1"), start=2):
        objects(url).write(f"spirit/switches/{number:08d}", content)
        message = one_line(lambda: store.current("spirit"))
        assert message.startswith(f"{url}/spirit/switches/{number:08d} names no version")
        assert "`trainer models use spirit VERSION`" in message


def test_a_store_that_is_away_is_no_reason_to_use_a_base(cloud: Network, machine: Machine) -> None:
    store = machine(URL)
    cloud.cut()
    for last_known in (False, True):
        action = partial(find_model, store, "spirit", last_known=last_known)
        message = one_line(action, StoreAwayError)
        assert message.startswith("cannot reach the store cloud://bucket/models: ")
        assert "Connection refused" in message


def test_the_version_that_was_in_use_when_the_store_was_seen_last(
    cloud: Network, machine: Machine
) -> None:
    store = machine(URL)
    for _ in range(2):
        add_tiny_model(store, "spirit")
    store.use("spirit", "0001")
    find_model(store, "spirit")
    cloud.cut()
    with pytest.raises(StoreAwayError):
        find_model(store, "spirit")
    model = find_model(store, "spirit", last_known=True)
    assert (model.bundle.manifest.version, model.adapted) == ("0001", True)
    assert model.away is not None
    assert "Connection refused" in model.away
    (Store(store.root).path("spirit", "0001") / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BundleCorruptError):
        find_model(store, "spirit", last_known=True)
    # A store that answers, and refuses, is not away.
    cloud.fault = PermissionError("Access Denied")
    assert "no right" in one_line(lambda: find_model(store, "spirit", last_known=True))


def test_whatever_a_user_gets_wrong_is_one_line(cloud: Network, machine: Machine) -> None:
    store = machine(URL)
    cloud.buckets.clear()
    for action in (store.targets, partial(store.current, "x"), partial(add_tiny_model, store, "x")):
        assert "there is no bucket 'bucket'" in one_line(action)
    no_credentials = type("NoCredentialsError", (Exception,), {})
    for fault, said in (
        (PermissionError("Access Denied\nRequestId: 1"), "no right to use the store cloud://"),
        (no_credentials("Unable to locate credentials"), "no credentials for the store cloud://"),
        (ValueError("Invalid bucket name"), "cannot use the store cloud://"),
        (OSError(28, "No space left on device"), "cannot use the store cloud://"),
        (TimeoutError(), "cannot reach the store cloud://bucket/models: TimeoutError"),
    ):
        cloud.fault = fault
        assert one_line(store.targets).startswith(said)
    cloud.fault = ConnectionError("GET https://s3/x?X-Amz-Signature=hush failed \x1b[2J")
    message = one_line(store.targets)
    assert "hush" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://key:hush@bucket/x", "without user, password"),
        ("s3://key:hu/sh@bucket/x", "without user, password"),
        ("https://ada:hush@host/x", "without user, password"),
        ("s3://bucket/x?token=hush", "without user, password"),
        ("gs://bucket/x#hush", "without user, password"),
        ("ftp://host/x", "a store cannot be at 'ftp://host/x': it is a folder, or s3://"),
        ("s3://bucket/simplecache::gs://x", "a store cannot be at"),
        ("s3://", "names no place of a store"),
        ("s3:///x", "names no place of a store"),
        ("s3://bucket//x", "names no place of a store"),
        ("s3://bucket/../x", "names no place of a store"),
        ("file://host/x", "names no place of a store"),
        ("file:///", "names no place of a store"),
        ("s3://bucket/a\nb", "names no place of a store"),
    ],
)
def test_a_url_where_no_store_can_be_is_refused_and_shows_no_secret(url: str, said: str) -> None:
    message = one_line(lambda: open_store(url))
    assert said in message
    assert "hush" not in message
    assert "hu/sh" not in message


def test_a_package_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PROTOCOLS, "s3", "s3fs_that_is_missing")
    monkeypatch.setattr("crosyslog.store_urls._EXTRAS", {"s3fs_that_is_missing": "s3"})
    assert "`pip install 'crosyslog[s3]'`" in one_line(lambda: open_store("s3://bucket/x"))


def test_a_file_url_that_names_a_file_is_refused(tmp_path: Path, machine: Machine) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    store = machine((tmp_path / "file").as_uri())
    for action in (store.targets, partial(store.versions, "x"), partial(store.current, "x")):
        assert "is no folder: name another one" in one_line(action)
    one_line(lambda: add_tiny_model(store, "spirit"))


def test_a_mirror_that_cannot_be_written_is_told_with_what_to_do(
    cloud: Network, machine: Machine, tmp_path: Path
) -> None:
    assert cloud.buckets
    add_tiny_model(machine(URL), "spirit")
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    store = open_store(URL, tmp_path / "file")
    message = one_line(lambda: store.in_use("spirit"))
    assert message.startswith("cannot keep copies of cloud://bucket/models in ")
    assert "CROSYSLOG_ENCODER__CACHE" in message
