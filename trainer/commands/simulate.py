"""`trainer simulate`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trainer.simulation import Summary


def simulate(
    *,
    system: Annotated[str, typer.Option(help="the system whose format is written")],
    lines: Annotated[int, typer.Option(help="how many lines")] = 100_000,
    anomaly_rate: Annotated[
        float, typer.Option(help="share of alert lines (hdfs, openstack: of sessions), 0 to 0.6")
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="the same arguments give the same bytes")] = 0,
    late_templates: Annotated[
        float, typer.Option(help="share of harmless templates that first appear later on, 0 to 0.9")
    ] = 0.1,
    templates: Annotated[
        int | None,
        typer.Option(
            help="about how many distinct masked templates the log comes to hold, by made-up "
            "names of users, programs and the like; without it a few hundred to some thousand"
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="the file to write; .gz and .zst are compressed")],
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Writes a labelled log in a system's raw format, from our own templates."""
    from trainer.screen import progress, say, say_facts, say_json
    from trainer.simulation import write_simulated_log

    with progress("writing lines", lines) as done:
        summary = write_simulated_log(
            system=system,
            lines=lines,
            anomaly_rate=anomaly_rate,
            seed=seed,
            output=output,
            late_templates=late_templates,
            templates=templates,
            on_lines=done,
        )
    if json:
        say_json(
            {
                "output": str(output),
                "system": system,
                "simulated": True,
                **asdict(summary),
                "first": summary.first.isoformat(),
                "last": summary.last.isoformat(),
                "labels": None if summary.labels is None else str(summary.labels),
            }
        )
        return
    say(_headline(system, seed, output, summary))
    by_tag = ", ".join(f"{tag} {count:,}" for tag, count in summary.alerts_by_tag.items())
    facts = [
        ("alerts", by_tag or "none"),
        ("line patterns", f"{summary.line_patterns:,}"),
        ("time", f"{summary.first:%Y-%m-%d %H:%M:%S} to {summary.last:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    if summary.labels is not None:
        facts.append(("labels", str(summary.labels)))
    say_facts(facts)


def _headline(system: str, seed: int, output: Path, summary: "Summary") -> str:
    kinds = len(summary.alerts_by_tag)
    if summary.labels is None:
        labelled = f"{summary.alerts:,} of them alerts of {kinds} kinds"
    else:
        labelled = f"{summary.alerts:,} of {summary.sessions:,} sessions anomalous in {kinds} ways"
    return (
        f"{output}: {summary.lines:,} simulated lines of {system}, {labelled}, "
        f"from {summary.hosts:,} hosts; seed {seed}"
    )
