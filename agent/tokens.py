"""Tokens for SASL OAUTHBEARER, from a program of the user's."""

from __future__ import annotations

import asyncio
import shlex
from time import monotonic
from weakref import WeakKeyDictionary

from aiokafka.abc import AbstractTokenProvider

from crosyslog.errors import SettingError

#: How long a token is used for further connections: dozens are made at once.
_KEPT_SECONDS = 30.0

#: A program that needs longer hangs.
_PATIENCE_SECONDS = 20.0


_providers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, TokenCommand]] = (
    WeakKeyDictionary()
)


def token_provider(command: str) -> TokenCommand:
    """The one provider of a command's tokens: all clients share what it printed last."""
    of_loop = _providers.setdefault(asyncio.get_running_loop(), {})
    return of_loop.setdefault(command, TokenCommand(command))


class TokenCommand(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Runs a program, without a shell, and takes what it prints for a token."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._token = ""
        self._until = 0.0
        self._alone = asyncio.Lock()

    async def token(self) -> str:
        """A token that is valid now.

        Raises:
            SettingError: the program cannot be run, fails, or prints none. What it prints is not
                told: it may be a secret.
        """
        async with self._alone:
            if monotonic() >= self._until:
                self._token = await self._run()
                self._until = monotonic() + _KEPT_SECONDS
            return self._token

    async def _run(self) -> str:
        try:
            words = shlex.split(self._command)
            process = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
            )
        except (OSError, ValueError, TypeError) as error:
            raise self._wrong(str(error)) from error
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                printed, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise self._wrong(f"it took more than {_PATIENCE_SECONDS:.0f} s") from None
        if process.returncode:
            raise self._wrong(f"it ended with {process.returncode}")
        if not printed.strip():
            raise self._wrong("it printed nothing")
        return printed.decode("ascii", "replace").strip()

    def _wrong(self, why: str) -> SettingError:
        program = self._command.split(" ")[0]
        return SettingError(f"kafka.sasl_token_command ({program} ...) gives no token: {why}")
