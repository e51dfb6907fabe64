"""The labelled source systems of a meta-training, as the command line names them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from crosyslog.encoder import Encoder
    from crosyslog.systems import System
    from trainer.tasks import LabelledStream


def named_sources(given: Sequence[str]) -> dict[str, Path]:
    """The sources of options `--source NAME=PATH`.

    Raises:
        SettingError: one is written otherwise, or is given twice.
    """
    named: dict[str, Path] = {}
    for source in given:
        name, sign, path = source.partition("=")
        if not (name and sign and path):
            raise SettingError(
                f"--source {source}: write NAME=PATH, a system's name and a labelled log of it"
            )
        if name in named:
            raise SettingError(f"--source {name} is given twice: a system is one log")
        named[name] = Path(path)
    return named


def systems_of(named: Mapping[str, Path]) -> dict[str, "System"]:
    """The profiles of sources, by the name that was given: a profile's, or its path.

    Raises:
        SystemProfileError: there is no such profile.
        SettingError: two names mean the same one.
    """
    from crosyslog.systems import load_system

    systems = {given: load_system(given) for given in named}
    names = [profile.name for profile in systems.values()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingError(f"--source {twice[0]} is given twice: a system is one log")
    return systems


def read_sources(
    named: Mapping[str, Path], systems: Mapping[str, "System"]
) -> "tuple[list[LabelledStream], Encoder]":
    """The labelled streams of sources, and the encoder that made their vectors.

    Raises:
        CrosyslogError: one cannot be read, or has no labels.
    """
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.locations import default_cache
    from trainer.labelled_logs import encode_with_progress, encoder_for, read_labelled
    from trainer.tasks import labelled_stream

    # By the profile's name, also where its path was given: `evaluate` refuses a base by it.
    logs = {
        systems[given].name: read_labelled(path, systems[given]) for given, path in named.items()
    }
    read = list(logs.values())
    encoder, cache = encoder_for(read), EmbeddingCache(default_cache())
    encode_with_progress(read, encoder, cache)
    streams = [labelled_stream(system, log, encoder, cache) for system, log in logs.items()]
    return streams, encoder
