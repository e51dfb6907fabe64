"""The event of an anomalous session: what `crosyslog-agent scan` writes, and its schema.

As for a line's event (`crosyslog.events`), names are those of OpenTelemetry's log data model where
it has one, and times are RFC 3339 in UTC.

Shapes: S sessions, N' lines of sessions, T templates.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from crosyslog import events
from crosyslog.events import LONGEST_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.manifest import Manifest
    from crosyslog.session_bundle import SessionBundle

#: Raise the first number with a change that a consumer can notice, the second with an addition.
SESSION_EVENT_VERSION = "1.0"

#: Lines that explain an event, and the most characters of each one's text.
MOST_LINES, LONGEST_LINE = 5, 1_024

#: What the same session gets in another company of sessions differs behind these digits.
_DIGITS = 4

_TRUNCATED = "crosyslog.truncated"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AttendedLine(_Part):
    """A line of the session that counted much in its judgement."""

    offset: Annotated[int, Field(ge=0, description="of the line, from 0 at the topic's first")]
    attention: Annotated[float, Field(ge=0, le=1, description="1 over all lines of a session")]
    template: Annotated[str, Field(description="the line's text with all that varies masked")]
    text: Annotated[str, Field(description=f"its message, cut to {LONGEST_LINE} characters")]


class ModelReference(events.ModelReference):
    """The model that judged the session."""


class Session(_Part):
    """Which lines were judged together."""

    key: Annotated[
        str,
        Field(
            description=f"what they have in common, cut to {LONGEST_TEXT} characters; of so many "
            "lines or so much time, the number of the first line, from 1"
        ),
    ]
    lines: Annotated[int, Field(ge=1, description="how many")]
    first_offset: Annotated[int, Field(ge=0, description="of its first line, from 0")]
    last_offset: Annotated[
        int, Field(ge=0, description="of its last line; between them may be lines of others")
    ]


class SessionAnomaly(_Part):
    """The judgement and its reasons."""

    id: Annotated[str, Field(description="topic/key: the same after a repeat")]
    score: Annotated[float, Field(ge=0, le=1)]
    threshold: Annotated[float, Field(ge=0, le=1, description="from this score on, an anomaly")]
    novel: Annotated[
        bool, Field(description="nothing in the model's support is like one of its lines")
    ]
    lines: Annotated[
        list[AttendedLine],
        Field(
            min_length=1,
            max_length=MOST_LINES,
            description="those with the most attention, the largest first",
        ),
    ]
    model: ModelReference


class SessionSource(_Part):
    """Where the session came from."""

    topic: str


class SessionEvent(_Part):
    """An anomalous session of log lines, with why it was flagged."""

    version: Annotated[str, Field(description="of this schema")]
    timestamp: Annotated[
        AwareDatetime | None, Field(description="when the session's first line was written")
    ]
    end_timestamp: Annotated[
        AwareDatetime | None, Field(description="when its last line was written")
    ]
    observed_timestamp: Annotated[AwareDatetime, Field(description="when it was judged")]
    body: Annotated[
        str,
        Field(
            description="the message of the line with the most attention, cut to "
            f"{LONGEST_TEXT} characters"
        ),
    ]
    attributes: Annotated[
        dict[str, str],
        Field(
            description="of the same line: `log.record.original`, the line as it came, cut to "
            f"{LONGEST_TEXT} characters; `component`; and `crosyslog.truncated`, which is `true` "
            "where a text of the event was cut"
        ),
    ]
    resource: Annotated[dict[str, str], Field(description="`service.name`")]
    session: Session
    anomaly: SessionAnomaly
    source: SessionSource


def session_event_schema() -> dict[str, Any]:
    """The JSON Schema of an event."""
    schema = SessionEvent.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$comment"] = f"version {SESSION_EVENT_VERSION}"
    return schema


def unlike_support(
    bundle: SessionBundle, texts: list[str], encoder: Encoder, cache: EmbeddingCache
) -> NDArray[np.bool_]:
    """Whether nothing in a bundle's support is like what is read of a template, [T].

    Args:
        bundle: the model.
        texts: of the templates' groups (`crosyslog.session_scorer.group_texts`).
        encoder: the one that the bundle was made with.
        cache: of its vectors.
    """
    from crosyslog.evidence import unit
    from crosyslog.session_scorer import template_vectors

    known = set(bundle.support["template"])
    # A text without a known word has no vector, and is like nothing, itself included.
    unseen = np.array([text not in known for text in texts], dtype=np.bool_)
    support_SD = bundle.support["vector"].to_numpy().reshape(-1, bundle.detector.shape.dim)
    if not len(support_SD) or not len(texts):
        return unseen
    vectors_TD = template_vectors(texts, bundle.words, encoder, cache)
    closest = (unit(vectors_TD) @ unit(support_SD).T).max(axis=1)
    return np.asarray(unseen & (closest < bundle.manifest.novel_below))


def most_attended(
    attention: NDArray[np.float32], starts: NDArray[np.int64], chosen: NDArray[np.int64]
) -> pl.DataFrame:
    """The lines of sessions that counted most in their judgement.

    Args:
        attention: to each line of all sessions, [N'].
        starts: where each of these begins, and, last, where they end, [S + 1].
        chosen: which sessions are asked about.

    Returns:
        A row for each such line: `session`, the place of its session in `chosen`, `place`, its own
        among all lines, and `attention`. They are ordered by session, then from the largest
        attention on; of lines with the same, the first comes first.
    """
    import polars as pl

    none = np.empty(0, dtype=np.int64)
    places = [np.arange(starts[session], starts[session + 1]) for session in chosen.tolist()]
    place = np.concatenate([none, *places])
    lines = pl.DataFrame(
        {
            "session": np.repeat(np.arange(len(chosen)), np.diff(starts)[chosen]),
            "place": place,
            "attention": attention[place].astype(np.float64).round(_DIGITS),
        }
    )
    return (
        # The worst piece of a long session alone was judged: the other lines have none.
        lines.filter(pl.col("attention") > 0)
        .sort("session", "attention", "place", descending=[False, True, False])
        .group_by("session", maintain_order=True)
        .head(MOST_LINES)
    )


def build_session_events(
    sessions: pl.DataFrame,
    lines: pl.DataFrame,
    manifest: Manifest,
    *,
    threshold: float,
    system: str,
    topic: str,
    observed: datetime,
) -> Iterator[dict[str, Any]]:
    """The events of anomalous sessions, ready for JSON (`crosyslog.events.to_json`).

    Args:
        sessions: a row for each: `key`, `lines` (how many), `first_offset`, `last_offset`, `time`,
            `end_time` (of its first and last line, or null), `score` and `novel`.
        lines: those with the most attention of each, in the order of `most_attended`: `session`
            (its row), `offset`, `attention`, `template`, and `raw`, `message` and `component` as
            `crosyslog.lines.split` gives them.
        manifest: of the bundle that judged them.
        threshold: that it was used with.
        system: the profile's name.
        topic: what they were read from.
        observed: when they were judged.
    """
    model = {"target": manifest.target, "version": manifest.version}
    told = groupby(lines.iter_rows(named=True), itemgetter("session"))
    for (_, group), session in zip(told, sessions.iter_rows(named=True), strict=True):
        attended = list(group)
        first, key = attended[0], session["key"][:LONGEST_TEXT]
        attributes = {"log.record.original": first["raw"][:LONGEST_TEXT]}
        if _is_cut(session["key"], attended):
            attributes[_TRUNCATED] = "true"
        if first["component"] is not None:
            attributes["component"] = first["component"][:LONGEST_TEXT]
        yield {
            "version": SESSION_EVENT_VERSION,
            "timestamp": session["time"],
            "end_timestamp": session["end_time"],
            "observed_timestamp": observed,
            "body": first["message"][:LONGEST_TEXT],
            "attributes": attributes,
            "resource": {"service.name": system},
            "session": {
                "key": key,
                "lines": session["lines"],
                "first_offset": session["first_offset"],
                "last_offset": session["last_offset"],
            },
            "anomaly": {
                "id": f"{topic}/{key}",
                # Rounded down, it might seem to be no anomaly.
                "score": max(round(session["score"], _DIGITS), threshold),
                "threshold": threshold,
                "novel": session["novel"],
                "lines": [
                    {
                        "offset": line["offset"],
                        "attention": line["attention"],
                        "template": line["template"],
                        "text": line["message"][:LONGEST_LINE],
                    }
                    for line in attended
                ],
                "model": model,
            },
            "source": {"topic": topic},
        }


def _is_cut(key: str, lines: list[dict[str, Any]]) -> bool:
    """Whether a text of an event is not whole."""
    first = lines[0]
    whole = max(len(key), len(first["raw"]), len(first["message"]), len(first["component"] or ""))
    return whole > LONGEST_TEXT or any(len(line["message"]) > LONGEST_LINE for line in lines)
