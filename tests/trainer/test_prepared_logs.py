"""Prepared logs as the other commands read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosyslog.bundle import load_bundle
from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.errors import CrosyslogError, EncoderError, InputError, LabelError
from crosyslog.manifest import checksum
from crosyslog.systems import load_system
from tests.fakes import FakeEncoder
from tests.trainer.made import make_base, messages, write_log
from tests.trainer.preparing import command, prepare, refused
from trainer.labelled_logs import read_labelled
from trainer.tasks import labelled_stream

SPIRIT = load_system("spirit")


pytestmark = pytest.mark.usefixtures("here")


def test_a_prepared_log_reads_as_the_log(log: Path, encoder: FakeEncoder) -> None:
    prepare(log)
    # Vectors come from the folder: there is no encoder to make them.
    from_folder = read_labelled(Path("made"), SPIRIT)
    from_log = read_labelled(log, SPIRIT)
    assert from_folder.templates == from_log.templates
    for column in ("rows", "labels", "offsets"):
        assert np.array_equal(getattr(from_folder, column), getattr(from_log, column))
    streams = [
        labelled_stream("spirit", lines, source, EmbeddingCache())
        for lines, source in (
            (from_log, encoder),
            (from_folder, from_folder.vectors or FakeEncoder()),
        )
    ]
    assert np.array_equal(streams[0].vectors, streams[1].vectors)
    assert streams[1].vectors.dtype == np.float32


def test_the_commands_read_a_prepared_log_as_the_log(
    here: Path,
    capfd: pytest.CaptureFixture[str],
    encoder: FakeEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = write_log(here / "spirit.log", *messages(11_700))
    make_base(here / "base", encoder)
    assert command("prepare", "--system", "spirit", "--log", log, "--output", "made") == 0
    (here / "quick.toml").write_text(
        "outer_steps = 2\ninner_steps = 1\nprojected = 4\nhidden = 3\nsupport_lines = 200\n"
        "query_windows = 2\ntasks_a_source = 1\n",
        encoding="utf-8",
    )
    capfd.readouterr()

    def report(*arguments: object) -> Any:  # noqa: ANN401 - whatever JSON can hold
        assert command(*arguments, "--json") == 0
        return json.loads(capfd.readouterr().out)

    def reports(path: Path) -> list[Any]:
        few = ("--support", 300, "--seeds", 1, "--tasks", 1, "--method", "crosyslog")
        found = [
            report("adapt", "--target", "spirit", "--base", "./base", "--log", path),
            report("evaluate", "--target", "spirit", "--base", "./base", "--log", path, *few),
            report("evaluate", "--target", "spirit", "--log", path, *few[:-1], "nearest"),
        ]
        for one in found:
            one.pop("version", None)
            one.pop("files", None)
            one.pop("file", None)
        return found

    from_log = reports(log)
    encoder.encoded.clear()
    monkeypatch.setenv("CROSYSLOG_ENCODER__CACHE", str(here / "another-cache"))
    assert reports(here / "made") == from_log
    arguments = ["train", "--source", "spirit=made", "--detector", "maml_lstm"]
    arguments += ["--config", "quick.toml"]
    assert report(*arguments, "--output", "trained")["sources"] == ["spirit"]
    assert load_bundle(here / "trained").manifest.encoder.id == encoder.id
    assert encoder.encoded == []


def test_without_a_profile_given_that_of_the_prepared_log_counts(
    log: Path, here: Path, encoder: FakeEncoder, capfd: pytest.CaptureFixture[str]
) -> None:
    make_base(here / "base", encoder)
    prepare(log)
    arguments = ("adapt", "--target", "mine", "--base", "./base", "--log", "made")
    assert command(*arguments, "--json") == 0
    assert json.loads(capfd.readouterr().out)["system"] == "spirit"
    assert "prepared log of spirit, not of bgl" in refused(capfd, *arguments, "--system", "bgl")
    of_bgl = ("adapt", "--target", "bgl", "--base", "./base", "--log", "made")
    assert "prepared log of spirit, not of bgl" in refused(capfd, *of_bgl)
    assert command(*of_bgl, "--system", "spirit") == 0


@pytest.mark.parametrize("name", ["lines-00000.parquet", "templates.parquet", "vectors.npy"])
def test_a_damaged_prepared_log_is_refused(log: Path, name: str) -> None:
    prepare(log)
    path = Path("made") / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is not as it was written"):
        read_labelled(Path("made"), SPIRIT)
    path.unlink()
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        read_labelled(Path("made"), SPIRIT)


def rewrite(folder: Path, **changes: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Changes a manifest, as another version of CroSysLog would have written it."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    content.pop("checksum")
    path.write_text(json.dumps(content | {"checksum": checksum(content)}), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"masking": "0"}, "made with masking 0"),
        ({"format": 2}, "has format 2"),
        ({"kind": "adapted"}, "no prepared log but a model"),
        ({"lines": -1}, "manifest.json: lines: "),
        ({"files": {}}, "is not among them"),
        ({"system": {"name": "spirit", "description": ""}}, "made with another profile spirit"),
    ],
)
def test_what_was_prepared_otherwise_is_refused(
    log: Path, changes: dict[str, Any], said: str
) -> None:
    prepare(log)
    rewrite(Path("made"), **changes)
    with pytest.raises(InputError, match=said):
        read_labelled(Path("made"), SPIRIT)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"kind": "prepared"}'])
def test_an_unreadable_manifest_is_refused(log: Path, content: bytes) -> None:
    prepare(log)
    (Path("made") / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match="is damaged: manifest"):
        read_labelled(Path("made"), SPIRIT)
    prepare(log, replace=True)  # what is damaged can still be replaced
    assert len(read_labelled(Path("made"), SPIRIT)) == 2_000


def test_the_vectors_of_another_encoder_are_refused(
    log: Path, here: Path, encoder: FakeEncoder, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare(log, encoder=FakeEncoder("other"))
    make_base(here / "base", encoder)
    said = refused(capfd, "adapt", "--target", "spirit", "--base", "./base", "--log", "made")
    assert "was prepared with the encoder fake:other" in said
    lines = read_labelled(Path("made"), SPIRIT)
    ids = FakeEncoder("other").id, FakeEncoder().id
    with pytest.raises(EncoderError, match=f"{ids[0]}, and {ids[1]} is needed"):
        labelled_stream("spirit", lines, FakeEncoder(), EmbeddingCache())


@pytest.mark.parametrize("there", ["nothing", "precious"])
def test_a_folder_that_is_not_prepared_is_refused(
    here: Path, capfd: pytest.CaptureFixture[str], there: str
) -> None:
    (here / "folder").mkdir()
    if there != "nothing":
        (here / "folder" / there).touch()
    for arguments in (
        ("adapt", "--target", "spirit", "--log", "folder"),
        ("adapt", "--target", "spirit", "--system", "spirit", "--log", "folder"),
        ("evaluate", "--target", "spirit", "--log", "folder"),
        ("train", "--source", "spirit=folder", "--source", "bgl=folder", "--output", "base"),
    ):
        assert "not one that `trainer prepare` wrote" in refused(capfd, *arguments)


def test_a_log_without_labels_can_be_prepared_and_not_learnt_from(here: Path) -> None:
    (here / "plain.log").write_text("one\ntwo\n", encoding="utf-8")
    manifest = prepare("plain.log", system="plain")
    assert (manifest.alerts, manifest.normal, manifest.unsplit) == (0, 0, 0)
    log = write_log(here / "log", *messages(10))
    bare = b"".join(line.partition(b" ")[2] for line in log.read_bytes().splitlines(keepends=True))
    (here / "bare.log").write_bytes(bare)
    prepare("bare.log", output=Path("bare"))
    with pytest.raises(LabelError, match="no line of bare has a label"):
        read_labelled(Path("bare"), SPIRIT)
    with pytest.raises(CrosyslogError, match="knows no labels"):
        read_labelled(Path("made"), load_system("plain"))
