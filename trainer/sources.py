"""The labelled source systems of a meta-training, as the command line names them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from crosyslog.encoder import Encoder
    from crosyslog.systems import System
    from trainer.tasks import LabelledStream


def source_paths(given: Sequence[str]) -> dict[str, list[Path]]:
    """The sources of options `--source NAME=PATH`: by name, the paths in the order given.

    Raises:
        SettingError: one is written otherwise.
    """
    paths: dict[str, list[Path]] = {}
    for source in given:
        name, sign, path = source.partition("=")
        if not (name and sign and path):
            raise SettingError(
                f"--source {source}: write NAME=PATH, a system's name and a labelled log of it"
            )
        paths.setdefault(name, []).append(Path(path))
    return paths


def one_each(paths: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    """The path of each source, where a system is one log.

    Raises:
        SettingError: there are several of one.
    """
    if twice := next((name for name, several in paths.items() if len(several) > 1), None):
        raise SettingError(f"--source {twice} is given twice: a system is one log")
    return {name: one for name, (one,) in paths.items()}


def named_sources(given: Sequence[str]) -> dict[str, Path]:
    """The sources of options `--source NAME=PATH`, each of which is one log.

    Raises:
        SettingError: one is written otherwise, or is given twice.
    """
    return one_each(source_paths(given))


def said_of_sources(
    option: str, given: Sequence[str], value: str, sources: Collection[str]
) -> dict[str, str]:
    """The values of options `OPTION NAME=VALUE`, which say something of a source.

    Args:
        option: its name.
        given: as they were written.
        value: what a value is called.
        sources: the names that `--source` gave.

    Raises:
        SettingError: one is written otherwise, names no source, or one that has its value already.
    """
    said: dict[str, str] = {}
    for one in given:
        name, sign, text = one.partition("=")
        if not (name and sign and text):
            raise SettingError(f"{option} {one}: write NAME={value}, NAME as in --source")
        if name not in sources:
            raise SettingError(
                f"{option} {one}: there is no --source {name}: it is {' or '.join(sources)}"
            )
        if name in said:
            raise SettingError(f"{option} {name} is given twice: a source has one")
        said[name] = text
    return said


def systems_of(named: Iterable[str]) -> dict[str, "System"]:
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
