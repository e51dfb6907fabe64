"""The command `crosyslog-agent`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.reasons import REASONS, reason_of
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
_Topic = Annotated[
    str | None,
    typer.Option(
        "--topic", metavar="NAME", help="the topic to read (kafka.topic)", show_default=False
    ),
]
_Servers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        metavar="HOST:PORT",
        help="brokers to ask first (kafka.bootstrap_servers)",
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
    topic: _Topic = None,
    model: _Model = None,
    bootstrap_servers: _Servers = None,
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
    """Judges a log without Kafka: its lines, or its sessions if the model judges those.

    Events go to standard output as JSON lines, the rest to standard error.
    """
    settings = _load(config, assignments, {"model.target": model})
    from agent.logs import configure_logging
    from agent.scanning import scan as scan_source

    configure_logging(settings.log)
    scan_source(source, settings)


@app.command()
def check(
    topic: _Topic = None,
    bootstrap_servers: _Servers = None,
    model: _Model = None,
    config: _Config = None,
    assignments: _Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Looks whether an agent with these settings could work: broker, rights, topics, model.

    Changes nothing. Status 2 if something is not as it should be.
    """
    flags = {
        "kafka.topic": topic,
        "kafka.bootstrap_servers": bootstrap_servers,
        "model.target": model,
    }
    settings = _load(config, assignments, flags)
    import asyncio

    from agent.checking import check as look

    findings = asyncio.run(look(settings))
    if as_json:
        import json

        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        words = {True: "ok", False: "FAILED", None: "-"}
        for what, ok, said in findings:
            typer.echo(f"{words[ok]:<7} {what:<9} {terminal.printable(said)}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(2)


@app.command("replay-dlq")
def replay_dlq(
    topic: _Topic = None,
    bootstrap_servers: _Servers = None,
    reason: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REASON",
            help=f"those of this reason alone: {', '.join(REASONS)}; repeatable",
            show_default=False,
        ),
    ] = None,
    most_replays: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="a line goes back this often at most"),
    ] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go back")] = False,
    config: _Config = None,
    assignments: _Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Sends dead letters back to the topic that they came from, once what was wrong is mended.

    Each is looked at once: the next call goes on behind the last one of its reason.
    """
    flags = {"kafka.topic": topic, "kafka.bootstrap_servers": bootstrap_servers}
    kafka = _load(config, assignments, flags).kafka
    name = kafka.resolved_topic
    import asyncio

    from agent.logs import quiet_client
    from agent.replaying import Replay, replay

    async def every() -> dict[str, Replay]:
        return {
            one: await replay(kafka, one, most_replays=most_replays, dry_run=dry_run)
            for one in dict.fromkeys(map(reason_of, reason or REASONS))
        }

    with quiet_client():
        done = asyncio.run(every())
    if as_json:
        import json

        found = {one: became._asdict() for one, became in done.items()}
        typer.echo(json.dumps({"topic": name, "dry_run": dry_run, "reasons": found}, indent=2))
        return
    for one, (sent, looping, incomplete) in done.items():
        said = f"{one:<13} {sent:,} {'would go' if dry_run else 'went'} back to {name}"
        if looping:
            said += f"; {looping:,} stay that went back {most_replays} times before"
        if incomplete:
            said += f"; {incomplete:,} stay whose value is too large for a topic"
        typer.echo(said)


@app.command()
def schema(
    of_sessions: Annotated[
        bool, typer.Option("--sessions", help="of an anomalous session, as `scan` writes it")
    ] = False,
) -> None:
    """Prints the JSON Schema of an event."""
    import json

    if of_sessions:
        from crosyslog.session_events import session_event_schema as made
    else:
        from crosyslog.events import event_schema as made

    typer.echo(json.dumps(made(), indent=2))


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
