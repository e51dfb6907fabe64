"""Runs `trainer` in this process, as a user would in a shell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crosyslog import terminal
from trainer.cli import app

if TYPE_CHECKING:
    import pytest


class Shell:
    """Runs commands and keeps what they print."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def says(self, *arguments: object) -> str:
        """What a command that succeeds prints."""
        return self.says_and_notes(*arguments)[0]

    def says_and_notes(self, *arguments: object) -> tuple[str, str]:
        """The same, and what it writes to standard error."""
        assert terminal.run(app, [str(argument) for argument in arguments]) == 0
        printed = self._capfd.readouterr()
        return printed.out, printed.err

    def reports(self, *arguments: object) -> Any:  # noqa: ANN401 - whatever JSON can hold
        return json.loads(self.says(*arguments, "--json"))

    def refuses(self, *arguments: object) -> str:
        """The one line of a command that the user got wrong."""
        assert terminal.run(app, [str(argument) for argument in arguments]) == 2
        printed = self._capfd.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        return printed.err
