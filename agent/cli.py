"""The command `crosyslog-agent`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosyslog import terminal

if TYPE_CHECKING:
    from agent.settings import Settings

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Reads a system's log from Kafka, publishes its anomalous lines, and exports metrics.",
)

_Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="settings in TOML", show_default=False),
]
_Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PART.NAME=VALUE",
        help="a setting, see `crosyslog-agent settings`; repeatable",
        show_default=False,
    ),
]
_Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="the system whose model is used (model.target)",
        show_default=False,
    ),
]


@app.callback(invoke_without_command=True)
def agent(
    context: typer.Context,
    topic: Annotated[
        str | None,
        typer.Option(
            "--topic", metavar="NAME", help="the topic to read (kafka.topic)", show_default=False
        ),
    ] = None,
    model: _Model = None,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(
            "--bootstrap-servers",
            metavar="HOST:PORT",
            help="the brokers (kafka.bootstrap_servers)",
            show_default=False,
        ),
    ] = None,
    config: _Config = None,
    assignments: _Set = None,
) -> None:
    """Runs the agent, unless a command is named."""
    flags = {
        "kafka.topic": topic,
        "model.target": model,
        "kafka.bootstrap_servers": bootstrap_servers,
    }
    if context.invoked_subcommand is not None:
        if config or assignments or any(flags.values()):
            raise typer.BadParameter(
                f"write options behind the command: crosyslog-agent {context.invoked_subcommand} …"
            )
        return
    settings = _load(config, assignments, flags)
    # Before torch is loaded: it takes seconds to say what a glance can tell.
    _ = settings.kafka.resolved_topic
    from agent.app import run
    from agent.logs import configure_logging

    configure_logging(settings.log)
    run(settings)


@app.command()
def scan(
    source: Annotated[
        str,
        typer.Argument(metavar="FILE|-", help="a log, gzip and zstd too; - for standard input"),
    ],
    model: _Model = None,
    config: _Config = None,
    assignments: _Set = None,
) -> None:
    """Judges a log without Kafka.

    Events go to standard output as JSON lines, the rest to standard error.
    """
    settings = _load(config, assignments, {"model.target": model})
    from agent.logs import configure_logging
    from agent.scanning import scan as scan_source

    configure_logging(settings.log)
    scan_source(source, settings)


@app.command()
def schema() -> None:
    """Prints the JSON Schema of an event."""
    import json

    from crosyslog.events import event_schema

    typer.echo(json.dumps(event_schema(), indent=2))


@app.command("settings")
def show_settings(
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    config: _Config = None,
    assignments: _Set = None,
) -> None:
    """Lists every setting with its value, default and environment variable."""
    from agent.settings import describe_settings

    described = describe_settings(_load(config, assignments, {}))
    if as_json:
        import json

        typer.echo(json.dumps([setting.model_dump() for setting in described], indent=2))
        return
    for setting in described:
        typer.echo(f"{setting.name} = {_or_none(setting.value)}")
        typer.echo(f"    {setting.description}")
        typer.echo(f"    default {_or_none(setting.default)}, environment {setting.environment}")


def main() -> None:
    """The console script."""
    sys.exit(terminal.run(app))


def _load(
    config: Path | None, assignments: list[str] | None, flags: dict[str, str | None]
) -> Settings:
    from agent.settings import load_settings

    return load_settings(config, assignments or (), flags)


def _or_none(value: str | None) -> str:
    return "(not set)" if value is None else terminal.printable(value)
