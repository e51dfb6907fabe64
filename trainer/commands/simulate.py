"""`trainer simulate`."""

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    *,
    system: Annotated[str, typer.Option(help="the system whose format is written")],
    lines: Annotated[int, typer.Option(help="how many lines")] = 100_000,
    anomaly_rate: Annotated[float, typer.Option(help="share of alert lines, 0 to 0.6")] = 0.05,
    seed: Annotated[int, typer.Option(help="the same arguments give the same bytes")] = 0,
    output: Annotated[Path, typer.Option(help="the file to write; .gz is compressed")],
    json: Annotated[bool, typer.Option("--json", help="report as JSON")] = False,
) -> None:
    """Writes a labelled log in a system's raw format, from our own templates."""
    from trainer.screen import progress, say, say_json
    from trainer.simulation import write_simulated_log

    with progress("writing lines", lines) as done:
        summary = write_simulated_log(
            system=system,
            lines=lines,
            anomaly_rate=anomaly_rate,
            seed=seed,
            output=output,
            on_lines=done,
        )
    if json:
        say_json(
            {
                "output": str(output),
                "system": system,
                "lines": summary.lines,
                "alerts": summary.alerts,
                "alerts_by_tag": summary.alerts_by_tag,
                "templates": summary.templates,
                "hosts": summary.hosts,
                "first": summary.first.isoformat(),
                "last": summary.last.isoformat(),
            }
        )
        return
    say(
        f"{output}: {summary.lines:,} simulated lines of {system}, {summary.alerts:,} of them "
        f"alerts of {len(summary.alerts_by_tag)} kinds, from {summary.hosts} hosts; seed {seed}"
    )
