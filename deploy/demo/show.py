"""What the demo puts on the screen: events as they arrive, and the summary."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from crosyslog.terminal import printable

if TYPE_CHECKING:
    from pathlib import Path

#: The most characters of a line on the screen.
_WIDTH = 90

#: Events on the screen: enough to see what is found, few enough to see the summary.
_EVENTS = 40


@dataclass(frozen=True)
class Summary:
    """What a run of the demo measured.

    Attributes:
        first_event_s: seconds from the command to the first event on the screen.
        total_s: seconds from the command to this summary.
        support: labelled lines that the model was adapted on.
        sent: lines replayed into Kafka.
        scored: the agent's metric `crosyslog_lines_scored_total`.
        lines_per_s: from the first line sent to the last one scored.
        events: anomaly events read back from Kafka.
        alerts: labelled alerts among the lines sent.
        precision: of the events; none without any.
        recall: of the alerts; none without any.
        base: the base and its sources.
        metrics: where the agent's metrics were.
    """

    first_event_s: float | None
    total_s: float
    support: int
    sent: int
    scored: int
    lines_per_s: float
    events: int
    alerts: int
    precision: float | None
    recall: float | None
    base: str
    metrics: str

    def write(self, path: Path) -> None:
        """Writes the figures as one flat JSON object."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def say(line: str = "") -> None:
    """Writes a line at once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class EventView:
    """Shows the first event of each template, since a storm repeats one a thousand times.

    Attributes:
        hidden: events that were not shown.
    """

    def __init__(self) -> None:
        self._shown: set[str] = set()
        self.hidden = 0

    def show(self, event: dict[str, Any]) -> None:
        """Shows an event: time, host, score, line, why."""
        anomaly = event["anomaly"]
        if anomaly["template_id"] in self._shown or len(self._shown) == _EVENTS:
            self.hidden += 1
            return
        self._shown.add(anomaly["template_id"])
        time = (event["timestamp"] or "no time").replace("T", " ").removesuffix("+00:00")
        host = printable(event["resource"].get("host.name", "no host"))
        component = event["attributes"].get("component")
        line = f"{component}: {event['body']}" if component else event["body"]
        say(f"{time}  {host:<14} {anomaly['score']:.3f}  {_short(line)}")
        say(f"{'':21}why: {_reason(anomaly)}")


def show_summary(summary: Summary, hidden: int) -> None:
    """Shows what was measured, as a list."""
    first = "none" if summary.first_event_s is None else f"{summary.first_event_s:.0f} s"
    rows = [
        ("first event", f"after {first}; all done after {summary.total_s:.0f} s"),
        ("support", f"{summary.support:,} labelled lines"),
        ("lines", f"{summary.sent:,} sent, {summary.scored:,} scored"),
        ("speed", f"{summary.lines_per_s:,.0f} lines a second, first sent to last scored"),
        ("events", f"{summary.events:,}; {hidden:,} not shown: repeats, or after {_EVENTS}"),
        ("precision", _share(summary.precision, "of the events are labelled alerts")),
        ("recall", _share(summary.recall, f"of the {summary.alerts:,} labelled alerts were found")),
        ("base", summary.base),
        ("metrics", f"{summary.metrics} while the agent ran"),
    ]  # fmt: skip
    say()
    for name, text in rows:
        say(f"  {name:<12} {text}")


def _share(value: float | None, of_what: str) -> str:
    return f"{value:.3f} {of_what}" if value is not None else "none: there were none to count"


def _short(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _WIDTH else shown[: _WIDTH - 3] + "..."


def _reason(anomaly: dict[str, Any]) -> str:
    parts = ["nothing in the support is like it"] if anomaly["novel"] else []
    for nearest in anomaly["nearest"][:1]:
        what = "an alert" if nearest["label"] == "alert" else "a normal line"
        where = nearest.get("template") or f"a prototype of {nearest.get('source')}"
        parts.append(f"{nearest['similarity']:.2f} like {what}: {_short(where)}")
    return "; ".join(parts) or "the model has no support"
