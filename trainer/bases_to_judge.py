"""The bases that `trainer evaluate` judges: shipped ones, a folder, or trained for it alone."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from crosyslog.errors import SettingError, StoreError
from crosyslog.store import DEFAULT_BASE, DETECTORS, DetectorKind, base_names, base_path
from trainer.based_methods import BASED, refuse_known

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crosyslog.bundle import Bundle
    from crosyslog.systems import System

    Loaders = dict[str, Callable[[], Bundle]]


def bases_for(
    methods: Sequence[str],
    base: str | None,
    sources: Sequence[str],
    detector: DetectorKind | None,
    *,
    target: str,
    system: System,
    asked_for: Sequence[str],
) -> Loaders:
    """The base of each method that needs one: looked at before any work, and loaded after.

    A folder is a base of one kind: `maml_lstm` is left out where it is of the other, unless it was
    asked for by name.

    Args:
        methods: names of methods; those without a base are passed over.
        base: a shipped one, or a folder; by default the shipped one that leaves the target out.
        sources: to train instead, as `NAME=PATH`.
        detector: what the method `crosyslog` is; by default the first kind, or that of the folder.
        target: what is judged.
        system: its profile.
        asked_for: methods that were named.

    Returns:
        By the method's name, what loads or trains its base; methods of one base share it.

    Raises:
        SettingError: both a base and sources are given, or one of them knows the target.
        StoreError: there is no such base.
    """
    if base is not None and sources:
        raise SettingError("--base and --source exclude each other: a base is given, or trained")
    needed: dict[str, DetectorKind | None] = {
        name: "maml_lstm" if name == "maml_lstm" else detector for name in methods if name in BASED
    }
    if sources:
        kinds = {name: kind or DETECTORS[0] for name, kind in needed.items()}
        return _trained(sources, target, system, kinds) if kinds else {}
    return _named(base, target, system, needed, asked_for)


def _named(
    base: str | None,
    target: str,
    system: System,
    needed: Mapping[str, DetectorKind | None],
    asked_for: Sequence[str],
) -> Loaders:
    from crosyslog.bundle import load_bundle
    from crosyslog.manifest import load_manifest

    if base is None:
        own = [f"without-{name}" for name in (target, system.name)]
        base = next((name for name in own if name in base_names()), DEFAULT_BASE)
    load = cache(load_bundle)
    loaders: Loaders = {}
    for name, kind in needed.items():
        try:
            folder = base_path(base, kind)
        except StoreError:
            if Path(base).is_dir() and name == "maml_lstm" and name not in asked_for:
                continue
            raise
        refuse_known(load_manifest(folder)[0], target, system)
        loaders[name] = partial(load, folder)
    return loaders


def _trained(
    sources: Sequence[str], target: str, system: System, kinds: Mapping[str, DetectorKind]
) -> Loaders:
    """Trained with the settings of `trainer train`."""
    from trainer.sources import named_sources, systems_of

    named = named_sources(sources)
    systems = systems_of(named)
    if known := {target, system.name} & {*named, *(one.name for one in systems.values())}:
        raise SettingError(
            f"--source {min(known)} is the target: a system is judged with a base that does "
            "not know it"
        )
    if "evidence" in kinds.values():
        from trainer.evidence_training import check_count

        check_count(list(systems))

    @cache
    def train(kind: DetectorKind) -> Bundle:
        from trainer.base_training import train_evidence_base, train_lstm_base
        from trainer.evidence_training import EvidenceConfig
        from trainer.sources import read_sources
        from trainer.training import TrainingConfig

        streams, encoder = read_sources(named, systems)
        name, made_by = "-".join(stream.name for stream in streams), "trainer evaluate"
        if kind == "evidence":
            return train_evidence_base(
                streams, name=name, settings=EvidenceConfig(), encoder=encoder, command=made_by
            )
        return train_lstm_base(
            streams, name=name, settings=TrainingConfig(), encoder=encoder, command=made_by
        )

    return {name: partial(train, kind) for name, kind in kinds.items()}
