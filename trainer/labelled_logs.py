"""Labelled logs, as every command reads them: a log's file, or the folder `prepare` made of it."""

from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosyslog.errors import EncoderError, InputError, LabelError
from crosyslog.systems import System, load_system, system_names
from trainer.screen import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.manifest import EncoderReference
    from trainer.labelled_lines import KnownVectors, LabelledLines
    from trainer.prepared_logs import PreparedLog


#: Lines that are read at once where single ones are looked for.
_LINES_AT_ONCE = 100_000


def system_of(target: str, given: str | None, log: Path | None) -> System:
    """The profile of a target's lines: the given one, else that of its name.

    Of another name, it is that of the prepared log, else plain.

    Raises:
        SystemProfileError: the given profile is unknown or malformed.
        InputError: the log is a folder that is not prepared.
    """
    if given is not None:
        return load_system(given)
    if target in system_names():
        return load_system(target)
    if log is not None and log.is_dir():
        from trainer.prepared_logs import PreparedLog

        return PreparedLog(log).manifest.system
    return load_system("plain")


def fallback_notes(target: str, given: str | None, profile: System) -> list[str]:
    """What to say where a target's lines are taken whole because nobody said how they split."""
    if given is not None or profile.name != "plain" or target == "plain":
        return []
    said = (
        f"no profile is named {target}, so lines are taken whole, with whatever time and host they "
        "begin with: --system PROFILE splits them (`trainer systems` lists the profiles)"
    )
    return [said]


def read_labelled(path: Path, system: System, labels: Path | None = None) -> "LabelledLines":
    """The labelled lines of a log or of a prepared log, in the order they were written.

    Args:
        path: the log, or the folder it was prepared to.
        system: its profile.
        labels: a file of labels (`trainer.label_files`), in place of the log's own.

    Raises:
        InputError: it cannot be read, is empty, or is not one of the system's.
        LabelError: no line has a label, or the file of labels does not fit the log.
    """
    from trainer.labelled_lines import number_lines

    if labels is not None:
        if path.is_dir():
            raise labels_of_its_own(path, labels)
        from trainer.label_files import with_labels

        return number_lines(with_labels(_read(path, system), labels, str(path)), str(path))
    if "label" not in system.groups:
        raise no_labels_known(system, path)
    if path.is_dir():
        return prepared_log(path, system).labelled()
    return number_lines(_read(path, system), str(path), system.fields.normal)


def labels_of_its_own(log: Path, labels: Path) -> LabelError:
    """What is raised where labels are given for the lines of a prepared log."""
    return LabelError(
        f"--labels {labels}: {log} is prepared and holds its own labels: name the log"
    )


def no_labels_known(system: System, path: Path) -> LabelError:
    """What is raised where no line of a log has a label."""
    if "label" not in system.groups:
        return LabelError(
            f"the profile {system.name} knows no labels: say with --system which system wrote "
            f"{path} ({_labelled_systems()}, or a profile of your own), or give --labels FILE"
        )
    from trainer.labelled_lines import no_labels

    return no_labels(str(path), system.fields.normal)


def lines_at(path: Path, places: Iterable[int]) -> dict[int, str]:
    """The raw lines at some places of a log, counted from 0, as they stand in it.

    Places after its end are left out; it is read as far as the last of them.

    Raises:
        InputError: it cannot be read.
    """
    from crosyslog.lines import decode, read_raw

    left, first = deque(sorted(set(places))), 0
    texts: dict[int, str] = {}
    for chunk in read_raw(path, _LINES_AT_ONCE):
        here = []
        while left and left[0] < first + len(chunk):
            here.append(left.popleft())
        lines = decode([chunk[place - first] for place in here]).to_list()
        texts.update(zip(here, lines, strict=True))
        first += len(chunk)
        if not left:
            break
    return texts


def raw_lines(path: Path, offsets: "NDArray[np.int64]") -> "Callable[[list[int]], dict[int, str]]":
    """Gives the raw lines at places of a labelled stream, as they stand in its log.

    Args:
        path: the log.
        offsets: of each labelled line, its place among all lines of the log.
    """

    def find(places: list[int]) -> dict[int, str]:
        texts = lines_at(path, (int(offsets[place]) for place in places))
        return {place: texts[int(offsets[place])] for place in places}

    return find


def _read(path: Path, system: System) -> "pl.DataFrame":
    from crosyslog.lines import read_lines
    from trainer.whole_logs import not_of

    lines = read_lines(path, system)
    if not lines["split"].any():
        raise not_of(path, system, lines.height)
    return lines


def encoder_for(
    logs: Sequence["LabelledLines"], wanted: "EncoderReference | None" = None
) -> "Encoder":
    """The encoder of logs; where all of them are prepared none is loaded: they have the vectors.

    Args:
        logs: what is to be encoded.
        wanted: the encoder of the base; without one, prepared logs may have any, and for others
            it is the shipped one.

    Raises:
        EncoderError: it is not here, or the logs were prepared with another one.
    """
    if logs and (known := logs[0].vectors) is not None and all(log.vectors for log in logs):
        if wanted is not None:
            require_encoder(known, wanted)
        return known
    from crosyslog.encoder import load_encoder

    return load_encoder(wanted.name, precision=wanted.precision) if wanted else load_encoder()


def require_encoder(known: "KnownVectors", wanted: "EncoderReference") -> None:
    """Refuses the vectors of a prepared log that are of another encoder than the base's.

    Raises:
        EncoderError: they are.
    """
    if wanted.id != known.id:
        raise EncoderError(
            f"the log was prepared with the encoder {known.id}, and the base was trained with "
            f"{wanted.id}: prepare it with that one ({wanted.name}), or name the log itself"
        )


def cache_for(log: "LabelledLines") -> "EmbeddingCache":
    """Where a log's vectors are kept: in memory alone if it is prepared."""
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.locations import default_cache

    return EmbeddingCache(default_cache() if log.vectors is None else None)


def encode_with_progress(
    logs: Sequence["LabelledLines"], encoder: "Encoder", cache: "EmbeddingCache"
) -> None:
    """Puts the vectors that are not known yet into the cache, behind a progress bar."""
    texts = sorted({text for log in logs if log.vectors is None for text in log.templates})
    if texts:
        encode_texts(texts, encoder, cache)


def encode_texts(texts: Sequence[str], encoder: "Encoder", cache: "EmbeddingCache") -> None:
    """Puts the vectors of distinct templates into a cache, behind a progress bar."""
    from trainer.labelled_lines import encode_in_pieces

    with progress("encoding templates", len(texts)) as moved:
        done = 0
        for rows, _ in encode_in_pieces(texts, encoder, cache):
            done += len(rows)
            moved(done)


def prepared_log(folder: Path, system: System) -> "PreparedLog":
    """A prepared log of a system.

    Raises:
        InputError: the folder is none, or was made with another profile.
    """
    from trainer.prepared_logs import PreparedLog

    log = PreparedLog(folder)
    own = log.manifest.system
    if own.name != system.name:
        raise InputError(f"{folder} is a prepared log of {own.name}, not of {system.name}")
    if how_it_splits(own) != how_it_splits(system):
        raise InputError(
            f"the prepared log {folder} was made with another profile {own.name} than there is "
            "now: prepare the log again"
        )
    return log


def encoder_of(
    wanted: "EncoderReference", texts: Sequence[str], known: "KnownVectors | None"
) -> "Encoder":
    """What gives the vectors of some templates: those of a prepared log, if it has all of them.

    Args:
        wanted: the encoder of the base.
        texts: the templates.
        known: the vectors of a prepared log.

    Raises:
        EncoderError: the log was prepared with another encoder.
    """
    from crosyslog.encoder import EncoderOnDemand

    if known is not None:
        require_encoder(known, wanted)
        if all(text in known.rows for text in texts):
            return known
    return EncoderOnDemand(wanted)


def vectors_of(
    texts: Sequence[str], wanted: "EncoderReference", known: "KnownVectors | None"
) -> "NDArray[np.float32]":
    """The vectors of distinct templates, [T, D]; those that no cache knows behind a progress bar.

    Raises:
        EncoderError: the encoder is not here, or the log was prepared with another one.
    """
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.locations import default_cache

    encoder = encoder_of(wanted, texts, known)
    cache = EmbeddingCache(None if encoder is known else default_cache())
    encode_texts(texts, encoder, cache)
    return cache.vectors(texts, encoder)


def how_it_splits(system: System) -> dict[str, Any]:
    """All of a profile that decides what becomes of a line."""
    # What becomes of lines together is no matter of one: a prepared log serves every such setting.
    others = {"description", "examples", "judged", "sessions", "drain"}
    return system.model_dump(exclude=others)


def _labelled_systems() -> str:
    return ", ".join(name for name in system_names() if "label" in load_system(name).groups)
