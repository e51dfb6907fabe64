"""The command `trainer`.

Only typer is imported here and at the top of the commands, so that `--help` is quick; what a
command computes with is imported when it runs.
"""

import sys

import typer

from crosyslog.terminal import run
from trainer.commands import (
    adapt,
    download,
    evaluate,
    label,
    models,
    prepare,
    simulate,
    systems,
    train,
    tune,
)

app = typer.Typer(
    name="trainer", rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
)


@app.callback(invoke_without_command=True)
def trainer(context: typer.Context) -> None:
    """Trains and adapts the models that find anomalous log lines, and judges them honestly."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


app.add_typer(systems.app, name="systems")
app.command("simulate")(simulate.simulate)
app.command("download")(download.download)
app.command("prepare")(prepare.prepare)
app.command("train")(train.train)
app.command("tune")(tune.tune)
app.command("label")(label.label)
app.command("adapt")(adapt.adapt)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(models.app, name="models")


def main() -> None:
    """The entry point: one line and status 2 for an error, never a traceback."""
    sys.exit(run(app))
