"""How commands speak: one line for an error, and log text that cannot act on a terminal."""

from __future__ import annotations

import errno
import os
import sys
import unicodedata
from typing import TYPE_CHECKING

from crosyslog.errors import CrosyslogError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

#: Unicode categories that a terminal may act on: controls, formats (bidirectional overrides),
#: surrogates, and line and paragraph separators.
_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


#: What a disk that takes no more answers; files of our own say so themselves.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def printable(text: str) -> str:
    """Text from a log as it may be shown: what a terminal would act on is spelled out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if unicodedata.category(character) not in _ACTING
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    What a user can cause becomes one line on standard error and the status 2, never a traceback.
    """
    from typer import Abort
    from typer.exceptions import TyperException

    try:
        status = app(args=arguments, standalone_mode=False)
        sys.stdout.flush()
    except CrosyslogError as error:
        return _refuse(str(error))
    except TyperException as error:
        return _refuse(error.format_message())
    except (KeyboardInterrupt, Abort):
        return 130
    except BrokenPipeError:
        # The reader went away (`| head`): nothing is left to say, not even at the final flush.
        # Where that shows while a command still writes, typer ends it the same way.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _FULL:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _refuse(f"the output cannot be written: {error.strerror}: make room for it")
    return status if isinstance(status, int) else 0


def _refuse(message: str) -> int:
    line = " ".join(part for part in message.splitlines() if part)
    sys.stderr.write(f"error: {printable(line)}\n")
    return 2
