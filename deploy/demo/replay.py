"""The lines that the demo replays: the label taken off, and kept aside for the summary."""

from dataclasses import dataclass
from pathlib import Path

from crosyslog.errors import InputError, LabelError
from crosyslog.systems import System


@dataclass(frozen=True)
class Replay:
    """A labelled log in two parts.

    Attributes:
        support: the first lines, as they are, for `trainer adapt`.
        lines: the rest without their labels, as they go into Kafka.
        labels: of the rest, whether each is an alert.
    """

    support: list[bytes]
    lines: list[bytes]
    labels: list[bool]


def load_replay(path: Path, system: System, support: int) -> Replay:
    """Reads a labelled log and cuts it in two.

    Args:
        path: the log, plain or compressed.
        system: the profile that says where the label stands.
        support: how many lines to adapt on.

    Raises:
        InputError: the log cannot be read, is none of the system's, or is too short.
        LabelError: its lines carry no label, or not as their first field.
    """
    import polars as pl

    from crosyslog.lines import decode, read_raw, split

    raw = [line for chunk in read_raw(path, 100_000) for line in chunk]
    if len(raw) <= support:
        raise InputError(
            f"{path} holds {len(raw)} lines: the demo adapts on the first {support} and replays "
            "the rest, so it needs more"
        )
    lines = split(decode(raw), system)
    if not lines["split"].any():
        raise InputError(
            f"{path} is no log of {system.name}: none of its lines splits; name its system with "
            "SYSTEM=name (`trainer systems` lists them)"
        )
    if not lines["label"].is_not_null().any() or system.pattern is None:
        raise LabelError(
            f"{path}: no line has a label of {system.name}, and the demo needs labels: the first "
            f"{support} to adapt on, the others to judge the result by"
        )
    labels = lines["raw"].str.extract_groups(system.pattern).struct.field("label").fill_null("")
    first = lines.select(pl.col("raw").str.starts_with(pl.lit(labels)))
    if not first.to_series().all():
        raise LabelError(
            f"{path}: the label of {system.name} is not a line's first field, so the demo cannot "
            "take it off"
        )
    lengths = [len(label.encode()) + 1 if label else 0 for label in labels]
    bare = [
        line[length:].rstrip(b"\r\n")
        for line, length in zip(raw[support:], lengths[support:], strict=True)
    ]
    return Replay(
        [line.rstrip(b"\r\n") + b"\n" for line in raw[:support]],
        bare,
        lines["label"].fill_null(value=False)[support:].to_list(),
    )
