"""The bases that ship: what they hold, and what they belong to."""

import pytest

from crosyslog.bundle import Bundle, load_bundle
from crosyslog.encoder import Encoder
from crosyslog.manifest import load_manifest
from crosyslog.masking import MASKING_VERSION
from crosyslog.store import DEFAULT_BASE, DETECTORS, base_names, base_path

#: What all that ships may weigh.
_BYTES = 20 * 2**20


KINDS = [(name, detector) for name in base_names() for detector in DETECTORS]


@pytest.fixture(params=KINDS, ids="-".join)
def base(request: pytest.FixtureRequest) -> Bundle:
    return load_bundle(base_path(*request.param))


def test_every_base_is_there_for_every_detector() -> None:
    left_out = [f"without-{name}" for name in ("bgl", "liberty", "spirit", "thunderbird")]
    assert base_names() == sorted(["base", "bgl-liberty", *left_out])
    for name, detector in KINDS:
        manifest, _ = load_manifest(base_path(name, detector))
        assert manifest.detector.kind == detector
        assert manifest.target == name
        assert name.removeprefix("without-") not in manifest.sources


def test_the_default_is_there() -> None:
    assert DEFAULT_BASE in base_names()


def test_a_base_holds_no_text(base: Bundle) -> None:
    assert base.manifest.kind == "base"
    assert base.manifest.system is None
    assert base.support["template"].null_count() == base.support.height
    assert set(base.support["source"]) == set(base.manifest.sources)


def test_a_base_says_how_it_was_made(base: Bundle) -> None:
    assert base.manifest.command.startswith("trainer train --source ")
    assert "/" not in base.manifest.command, "a path tells of the machine it was made on"


def test_a_base_adapts_as_it_was_trained(base: Bundle) -> None:
    """Where a manifest of before does not say how repeats count, its default is how they did."""
    settings = base.manifest.settings
    assert base.manifest.inner_loop.repeat_power == settings.get("repeat_power", 1.0)
    steps = settings.get("adaptation_steps", settings["inner_steps"])
    assert base.manifest.inner_loop.steps == steps


def test_a_base_belongs_to_this_masking_and_encoder(base: Bundle, encoder: Encoder) -> None:
    """A change of either needs new bases: this fails until they are made."""
    assert base.manifest.masking == MASKING_VERSION == "1"
    assert base.manifest.encoder.id == encoder.id == "minilm:22ab87ecc1cb:mean:fp32"
    assert base.manifest.encoder.dim == encoder.dim


def test_all_bases_together_are_small() -> None:
    files = [path for kind in KINDS for path in base_path(*kind).iterdir()]
    assert sum(path.stat().st_size for path in files) < _BYTES
