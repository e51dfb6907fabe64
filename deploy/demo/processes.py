"""The demo's own processes: our commands, and the agent."""

import asyncio
import contextlib
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from crosyslog.errors import BrokerError, CrosyslogError

#: A stuck agent must not hang the demo: it starts in some 15 s on a slow machine.
_START_SECONDS = 120.0

#: Likewise without any progress for this long.
_STALL_SECONDS = 120.0

#: The agent promises to be gone in 10 s; twice that is a defect to report.
_STOP_SECONDS = 20.0

#: What a command of ours ends with after Ctrl-C: by itself, or before Python heeds the signal.
_INTERRUPTED = (130, -signal.SIGINT)


async def run_command(environment: Mapping[str, str], *words: str) -> str:
    """Runs one of our commands and returns what it printed.

    Raises:
        CrosyslogError: the command failed; it says what the command said.
        KeyboardInterrupt: the command was interrupted.
    """
    process = await asyncio.create_subprocess_exec(
        *_program(words),
        env=dict(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode in _INTERRUPTED:
        # Ctrl-C goes to all processes of a terminal, and to the command first here.
        raise KeyboardInterrupt
    if process.returncode:
        reason = err.decode(errors="replace").strip().removeprefix("error: ")
        raise CrosyslogError(f"{words[0]} {words[1]}: {reason}")
    return out.decode(errors="replace")


def _program(words: Sequence[str]) -> list[str]:
    """A command of this environment, whatever PATH says."""
    return [str(Path(sys.executable).with_name(words[0])), *words[1:]]


class Agent:
    """A running `crosyslog-agent`, as the demo sees it: its process, log and metrics."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log: Path) -> None:
        self._process = process
        self._url = url
        self._log = log

    async def ready(self) -> None:
        """Waits until the agent consumes.

        Raises:
            BrokerError: it ended, or took longer than anyone would wait.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not await _answers(f"{self._url}/readyz"):
            self._check_runs()
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the agent was not ready in {_START_SECONDS:.0f} s: see {self._log}"
                )
            await asyncio.sleep(0.2)

    async def metric(self, name: str) -> int:
        """The sum of a metric over its labels."""
        text = await _get(f"{self._url}/metrics")
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))

    async def all_scored(self, sent: int) -> int:
        """Waits until as many lines were scored as were sent; returns the agent's own count.

        Raises:
            BrokerError: it ended, or makes no progress.
        """
        seen, deadline = -1, 0.0
        while True:
            scored = await self.metric("crosyslog_lines_scored_total")
            if scored >= sent:
                return scored
            self._check_runs()
            if scored != seen:
                seen, deadline = scored, time.monotonic() + _STALL_SECONDS
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the agent scored {scored} of {sent} lines and then none for "
                    f"{_STALL_SECONDS:.0f} s: see {self._log}"
                )
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Asks the agent to drain and end.

        Raises:
            BrokerError: it does not end, or not well.
        """
        self._process.terminate()
        try:
            status = await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
        except TimeoutError:
            raise BrokerError(
                f"the agent did not stop within {_STOP_SECONDS:.0f} s of SIGTERM: see {self._log}"
            ) from None
        if status:
            raise BrokerError(f"the agent stopped with status {status}: see {self._log}")

    def _check_runs(self) -> None:
        if self._process.returncode is not None:
            said = self._log.read_text(errors="replace").strip().splitlines()
            last = said[-1] if said else "it said nothing"
            raise BrokerError(f"the agent ended by itself: {last} (all it said: {self._log})")


@contextlib.asynccontextmanager
async def running_agent(
    environment: Mapping[str, str], options: Sequence[str], *, port: int, log: Path
) -> AsyncIterator[Agent]:
    """The agent, ready to consume; it is gone when the block is left.

    Args:
        environment: of the process.
        options: of the command `crosyslog-agent`, the port aside.
        port: of its metrics, on loopback.
        log: where its output goes.
    """
    with log.open("wb") as stream:
        process = await asyncio.create_subprocess_exec(
            *_program(["crosyslog-agent", *options, "--set", f"http.port={port}"]),
            env=dict(environment),
            stdout=stream,
            stderr=stream,
        )
    try:
        agent = Agent(process, f"http://127.0.0.1:{port}", log)
        await agent.ready()
        yield agent
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(url: str) -> bool:
    try:
        await _get(url)
    except OSError:
        return False
    return True


async def _get(url: str) -> str:
    def get() -> str:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            return str(answer.read().decode())

    return await asyncio.to_thread(get)
