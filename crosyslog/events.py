"""The anomaly event: what is published for an anomalous line, and its schema.

The names of the log record are those of OpenTelemetry's log data model; times are RFC 3339 in UTC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from crosyslog.masking import template_id

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

    from crosyslog.scorer import Nearest, Scorer

#: Raise the first number with a change that a consumer can notice, the second with an addition.
EVENT_VERSION = "1.1"

#: An event holds a line up to twice, and brokers take 1 MiB unless they are told otherwise.
LONGEST_TEXT = 65_536

#: What is left of each text of an event that is too large for its topic all the same.
_SHORT_TEXT = 1_024

_TRUNCATED = "crosyslog.truncated"

#: OpenTelemetry's severity numbers of the words that logs use.
_SEVERITY_NUMBERS = {
    "TRACE": 1, "DEBUG": 5, "INFO": 9, "NOTICE": 10, "WARN": 13, "WARNING": 13, "ERROR": 17,
    "SEVERE": 18, "FAILURE": 18, "CRITICAL": 21, "FATAL": 21, "ALERT": 22, "EMERGENCY": 24,
}  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NearestSupport(_Part):
    """A labelled template that is close to the line's, as an explanation."""

    template: Annotated[
        str | None, Field(description="its text; missing for a base model, which holds none")
    ] = None
    source: Annotated[
        str | None, Field(description="the system it comes from, for a base model")
    ] = None
    label: Literal["alert", "normal"]
    similarity: Annotated[float, Field(ge=-1.01, le=1.01, description="cosine of the vectors")]


class ModelReference(_Part):
    """The model that judged the line."""

    target: str
    version: str


class Anomaly(_Part):
    """The judgement and its reasons."""

    id: Annotated[str, Field(description="topic/partition/offset: the same after a repeat")]
    score: Annotated[float, Field(ge=0, le=1)]
    threshold: Annotated[float, Field(ge=0, le=1, description="from this score on, an anomaly")]
    template: Annotated[str, Field(description="the line's text with all that varies masked")]
    template_id: Annotated[str, Field(description="a digest of the template")]
    novel: Annotated[bool, Field(description="nothing in the model's support is like it")]
    nearest: list[NearestSupport]
    model: ModelReference


class Source(_Part):
    """Where the line came from."""

    topic: str
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]


class AnomalyEvent(_Part):
    """An anomalous log line, with why it was flagged."""

    version: Annotated[str, Field(description="of this schema")]
    timestamp: Annotated[AwareDatetime | None, Field(description="when the line was written")]
    observed_timestamp: Annotated[AwareDatetime, Field(description="when it was judged")]
    severity_text: str | None
    severity_number: Annotated[int | None, Field(ge=1, le=24)]
    body: Annotated[str, Field(description=f"the line's message, cut to {LONGEST_TEXT} characters")]
    attributes: Annotated[
        dict[str, str],
        Field(
            description=f"`log.record.original`, the line as it came, cut to {LONGEST_TEXT} "
            "characters; `component`; `crosyslog.truncated`, which is `true` where the line was cut"
        ),
    ]
    resource: Annotated[dict[str, str], Field(description="`host.name`, `service.name`")]
    anomaly: Anomaly
    source: Source


def event_schema() -> dict[str, Any]:
    """The JSON Schema of an event."""
    schema = AnomalyEvent.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$comment"] = f"version {EVENT_VERSION}"
    return schema


def build_events(
    scored: pl.DataFrame, scorer: Scorer, system: str, observed: datetime
) -> list[dict[str, Any]]:
    """The events of the anomalous lines of a batch, ready for JSON.

    Plain dictionaries, since an alert storm makes thousands a second; a test holds them to
    `AnomalyEvent`.

    Args:
        scored: what `Scorer.score` returned for a frame of lines with `topic`, `partition` and
            `offset`.
        scorer: the scorer that judged them: it knows the reasons.
        system: the profile's name.
        observed: when they were judged.
    """
    manifest = scorer.bundle.manifest
    model = {"target": manifest.target, "version": manifest.version}
    reasons: dict[str, list[dict[str, Any]]] = {}
    events = []
    for line in scored.filter("anomalous").iter_rows(named=True):
        template = line["template"]
        if template not in reasons:
            reasons[template] = [_reason(nearest) for nearest in scorer.nearest(template)]
        severity = line["severity"]
        attributes = {"log.record.original": line["raw"][:LONGEST_TEXT]}
        if max(len(line["raw"]), len(line["message"])) > LONGEST_TEXT:
            attributes[_TRUNCATED] = "true"
        if line["component"] is not None:
            attributes["component"] = line["component"]
        resource = {"service.name": system}
        if line["host"] is not None:
            resource["host.name"] = line["host"]
        place = (line["topic"], line["partition"], line["offset"])
        events.append(
            {
                "version": EVENT_VERSION,
                "timestamp": line["time"],
                "observed_timestamp": observed,
                "severity_text": severity,
                "severity_number": _SEVERITY_NUMBERS.get((severity or "").upper()),
                "body": line["message"][:LONGEST_TEXT],
                "attributes": attributes,
                "resource": resource,
                "anomaly": {
                    "id": "/".join(map(str, place)),
                    "score": round(line["score"], 6),
                    "threshold": scorer.threshold,
                    "template": template,
                    "template_id": template_id(template),
                    "novel": line["novel"],
                    "nearest": reasons[template],
                    "model": model,
                },
                "source": dict(zip(("topic", "partition", "offset"), place, strict=True)),
            }
        )
    return events


def to_json(event: dict[str, Any]) -> bytes:
    """An event as one line of JSON."""
    import orjson

    # It returns ten times the memory that the text needs; this is as large as that.
    return bytes(memoryview(orjson.dumps(event)))


def shortened(event: bytes) -> bytes:
    """The same event, some kilobytes large, for a topic that does not take it as it is.

    Args:
        event: as `to_json` wrote it.
    """
    import orjson

    cut: dict[str, Any] = _cut(orjson.loads(event))
    cut["attributes"][_TRUNCATED] = "true"
    return to_json(cut)


def _cut(part: Any) -> Any:  # noqa: ANN401 - any part of JSON
    if isinstance(part, str):
        return part[:_SHORT_TEXT]
    if isinstance(part, dict):
        return {name: _cut(inner) for name, inner in part.items()}
    return [_cut(inner) for inner in part] if isinstance(part, list) else part


def _reason(nearest: Nearest) -> dict[str, Any]:
    reason = nearest._asdict() | {"similarity": round(nearest.similarity, 4)}
    return {name: value for name, value in reason.items() if value is not None}
