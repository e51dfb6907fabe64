"""`crosyslog-agent scan` with a model that judges sessions.

What is held of a line until its session is complete: numbers (its place, its session, its time,
its template), and its text, compressed, since it cannot be known before which lines an event will
name; some 100 bytes in all for a line of HDFS. By count or time that is one session, by key every
line that has a key.

Shapes: S sessions.
"""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agent.kept_texts import KeptTexts
from crosyslog.errors import InputError
from crosyslog.events import to_json
from crosyslog.manifest import load_manifest
from crosyslog.session_events import build_session_events, most_attended, unlike_support
from crosyslog.session_scorer import Rows, SessionScorer, group_texts
from crosyslog.sessions import SessionStream
from crosyslog.store import open_store, require_own, version_in_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from agent.reasons import Reason
    from agent.settings import Settings
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.session_bundle import SessionBundle
    from crosyslog.session_rules import SessionRule
    from crosyslog.sessions import CompleteSessions
    from crosyslog.store import InUse
    from crosyslog.systems import System

#: Anomalous sessions whose lines' texts are at hand at once.
_SESSIONS_AT_ONCE = 10_000


class Scanned(NamedTuple):
    """What a scan came to.

    Attributes:
        counts: what was counted, in words.
        lines: how many were read.
        dead: how many of them could not be judged, by reason.
        notes: what else is to be told.
    """

    counts: str
    lines: int
    dead: Counter[Reason]
    notes: list[str]


def find_session_model(settings: Settings) -> InUse | None:
    """The version in use for the settings' target if it judges sessions; weights are not read.

    Raises:
        StoreError: the store cannot be read, or holds versions of which none is in use.
        BundleError: the manifest cannot be read.
    """
    store = open_store(settings.model.store, settings.encoder.cache)
    found = version_in_use(store, settings.target, last_known=True)
    if found is None or load_manifest(found.folder)[0].detector.kind != "metalog":
        return None
    return found


def scan_sessions(
    name: str,
    chunks: Iterable[list[bytes]],
    model: InUse,
    settings: Settings,
    load: Callable[[str, str, str], Encoder],
    say: Callable[[str], None],
) -> Scanned:
    """Judges the sessions of a stream of lines, and writes an event for each anomalous one.

    Events go to standard output, a JSON line each, in the order in which sessions are complete:
    of so many lines or so much time, when the next one begins; by key, at the end.

    Args:
        name: of the stream; it is the events' topic.
        chunks: its raw lines.
        model: what `find_session_model` found.
        settings: those of the batch, the encoder and the model count.
        load: loads an encoder by name, device and precision.
        say: tells the user something.

    Raises:
        StoreError: the model was adapted to another target.
        BundleError, EncoderError, SettingError: the model or encoder cannot be loaded.
        InputError: no line has what sessions are made by.
    """
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.session_bundle import load_session_bundle
    from crosyslog.systems import load_system

    bundle = load_session_bundle(model.folder)
    manifest = bundle.manifest
    require_own(model.folder, manifest.target)
    rule, system = manifest.sessions, manifest.system or load_system("plain")
    assert rule is not None  # noqa: S101 - a bundle that lacks it is not loaded
    wanted, made_with = settings.encoder, manifest.encoder
    encoder = load(
        wanted.name or made_with.name, wanted.device, wanted.precision or made_with.precision
    )
    cache = EmbeddingCache(wanted.cache, wanted.cache_entries)
    try:
        told = f"; it was in use when the store was seen last ({model.away})" if model.away else ""
        say(
            f"model {manifest.target}/{manifest.version}, lines read as {system.name}, sessions by "
            f"{rule}{told}"
        )
        scanning = _Scanning(name, bundle, system, rule, settings, encoder, cache)
        for chunk in chunks:
            scanning.add(chunk)
        return scanning.finish()
    finally:
        cache.close()


class _Scanning:
    """One scan, from its first line to its last."""

    def __init__(
        self,
        name: str,
        bundle: SessionBundle,
        system: System,
        rule: SessionRule,
        settings: Settings,
        encoder: Encoder,
        cache: EmbeddingCache,
    ) -> None:
        import polars as pl

        self._name, self._system, self._rule = name, system, rule
        self._longest = settings.batch.max_line_bytes
        self._encoder, self._cache = encoder, cache
        self._scorer = SessionScorer(bundle, encoder, cache, settings.model.threshold)
        self._stream, self._texts = SessionStream(rule), KeptTexts()
        # By key all lines are held, with a number each in place of a template; else those of one
        # session are, and a stream without an end must not collect templates without one.
        by_key = rule.by == "key"
        self._templates = pl.Categorical(pl.Categories.random()) if by_key else pl.String()
        self._lines = self._judged = self._unsplit = self._left_out = 0
        self._sessions = self._anomalies = 0
        self._timed = False
        self._dead: Counter[Reason] = Counter()

    def add(self, chunk: Sequence[bytes]) -> None:
        """Takes the next lines, and writes the events of the sessions that are complete."""
        import polars as pl

        from crosyslog.masking import mask

        lines = self._readable(chunk)
        self._lines += len(chunk)
        if lines.is_empty():
            return
        self._judged += lines.height
        self._unsplit += lines.height - int(lines["split"].sum())
        self._timed = self._timed or lines["time"].null_count() < lines.height
        text = pl.col("raw")
        if self._rule.by == "key":
            # A line without a key keeps its number, and no text.
            text = pl.when(pl.col("session").is_not_null()).then(text).otherwise(pl.lit(""))
        self._texts.add(lines.select(text).to_series().to_list())
        template = mask(lines["text"]).cast(self._templates).alias("template")
        held = ("offset", "time", "session") if self._rule.by == "key" else ("offset", "time")
        self._judge(self._stream.add(lines.select(*held, template)))

    def finish(self) -> Scanned:
        """Writes the events of the sessions that are left.

        Raises:
            InputError: no line has what sessions are made by.
        """
        by, system = self._rule.by, self._system.name
        keyless = by == "key" and self._left_out == self._judged
        if self._judged and (keyless or (by == "time" and not self._timed)):
            raise InputError(
                f"{self._name}: no line has a {by} that the profile {system} finds, so there are "
                f"no sessions; see `trainer systems check {system} FILE`"
            )
        self._judge(self._stream.finish())
        notes = []
        if self._left_out:
            notes.append(
                f"{self._left_out:,} of {self._lines:,} lines have no key, and are in no session"
            )
        if self._unsplit:
            became = "" if by == "key" else ", and were read whole"
            notes.append(
                f"{self._unsplit:,} of {self._lines:,} lines are not split by {system}{became}: "
                f"see `trainer systems check {system} FILE`"
            )
        counts = (
            f"{self._lines:,} lines, {self._sessions:,} sessions, {self._anomalies:,} anomalies"
        )
        return Scanned(counts, self._lines, self._dead, notes)

    def _readable(self, chunk: Sequence[bytes]) -> pl.DataFrame:
        """The lines that can be judged, as `crosyslog.lines.split`, with the `offset` of each."""
        import polars as pl

        from crosyslog.lines import decode, split

        values = pl.Series("raw", chunk, dtype=pl.Binary)
        offsets = pl.Series("offset", np.arange(self._lines, self._lines + len(chunk)))
        fits = values.bin.size() <= self._longest
        if not fits.all():
            self._dead["oversized"] += int((~fits).sum())
            values, offsets = values.filter(fits), offsets.filter(fits)
        lines = split(decode(values), self._system).with_columns(offsets)
        if self._system.paths is None or lines["split"].all():
            return lines
        # A line that is no JSON object, or one without a message, is none of such a system's.
        objects = lines.filter(~pl.col("split")).select(
            pl.col("raw").str.json_path_match("$").str.starts_with("{").fill_null(value=False)
        )
        self._dead["missing-field"] += int(objects.to_series().sum())
        self._dead["undecodable"] += int((~objects.to_series()).sum())
        self._dead = +self._dead
        return lines.filter("split")

    def _judge(self, complete: CompleteSessions) -> None:
        """Scores complete sessions, writes the events of the anomalous ones, and lets them go."""
        import polars as pl

        sessions = complete.sessions
        self._left_out += sessions.left_out
        if len(sessions):
            self._sessions += len(sessions)
            named = complete.lines["template"]
            if named.dtype == pl.String:
                named = named.cast(pl.Categorical(pl.Categories.random()))
            distinct = named.unique(maintain_order=True)
            numbers = named.to_physical().replace_strict(
                distinct.to_physical(), np.arange(len(distinct)), return_dtype=pl.Int64
            )
            rows = Rows(numbers.to_numpy(), sessions.starts)
            self._write(complete, distinct.cast(pl.String).to_list(), rows)
        # By key, these are the last ones, or none.
        self._texts.let_go(int(sessions.rows[-1]) + 1 if len(sessions) else 0)

    def _write(self, complete: CompleteSessions, templates: list[str], rows: Rows) -> None:
        scored = self._scorer.score(templates, rows)
        anomalous = np.flatnonzero(scored.scores >= self._scorer.threshold)
        self._anomalies += len(anomalous)
        for low in range(0, len(anomalous), _SESSIONS_AT_ONCE):
            chosen = anomalous[low : low + _SESSIONS_AT_ONCE]
            lines = most_attended(scored.attention, rows.starts, chosen)
            novel = self._novel(templates, rows, chosen)
            events = build_session_events(
                self._described(complete, chosen, scored.scores, novel),
                self._with_texts(lines, complete, templates, rows),
                self._scorer.bundle.manifest,
                threshold=self._scorer.threshold,
                system=self._system.name,
                topic=self._name,
                observed=datetime.now(UTC),
            )
            sys.stdout.buffer.writelines(to_json(event) + b"\n" for event in events)
        sys.stdout.buffer.flush()

    def _novel(
        self, templates: list[str], rows: Rows, chosen: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether nothing in the support is like some line of each of the chosen sessions."""
        theirs = rows.chosen(chosen)
        used, numbers = np.unique(theirs.templates, return_inverse=True)
        bundle = self._scorer.bundle
        texts = group_texts(bundle.groups, [templates[number] for number in used.tolist()])
        novel = unlike_support(bundle, texts, self._encoder, self._cache)
        return np.logical_or.reduceat(novel[numbers], theirs.starts[:-1])

    def _described(
        self,
        complete: CompleteSessions,
        chosen: NDArray[np.int64],
        scores: NDArray[np.float32],
        novel: NDArray[np.bool_],
    ) -> pl.DataFrame:
        """The chosen sessions, as `build_session_events` takes them."""
        import polars as pl

        sessions = complete.sessions
        starts, ends = sessions.starts[:-1][chosen], sessions.starts[1:][chosen] - 1
        offsets, times = complete.lines["offset"], complete.lines["time"]
        firsts = offsets.gather(starts)
        if self._rule.by == "key":
            keys = pl.Series([sessions.keys[session] for session in chosen.tolist()])
        else:
            # Lines that cannot be judged are among those that a user counts.
            keys = (firsts + 1).cast(pl.String)
        return pl.DataFrame(
            {
                "key": keys,
                "lines": sessions.lengths[chosen],
                "first_offset": firsts,
                "last_offset": offsets.gather(ends),
                "time": times.gather(starts),
                "end_time": times.gather(ends),
                "score": scores[chosen].astype(np.float64),
                "novel": novel,
            }
        )

    def _with_texts(
        self, lines: pl.DataFrame, complete: CompleteSessions, templates: list[str], rows: Rows
    ) -> pl.DataFrame:
        """Lines of sessions with what `build_session_events` tells of them."""
        import polars as pl

        from crosyslog.lines import split

        place = lines["place"].to_numpy()
        numbers, back = np.unique(complete.sessions.rows[place], return_inverse=True)
        raw = pl.Series("raw", self._texts.at(numbers), dtype=pl.String)
        fields = split(raw, self._system).select("raw", "message", "component")
        return lines.with_columns(
            complete.lines["offset"].gather(place),
            pl.Series("template", [templates[number] for number in rows.templates[place].tolist()]),
        ).hstack(fields[back])
