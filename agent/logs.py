"""The agent's log on standard error: text or JSON, safe to show, without a client's noise."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from crosyslog.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.setting_parts import LogSettings

#: After a broker bounce aiokafka logs dozens of errors within a second: one of each in this time.
_QUIET_SECONDS = 10.0

_CLIENT = "aiokafka"


def configure_logging(settings: LogSettings) -> None:
    """Sends the log of the whole process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    handler.addFilter(RepeatFilter())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # Its information is about its own requests; what it warns of is about the cluster.
    debug = settings.level == "debug"
    logging.getLogger(_CLIENT).setLevel(logging.DEBUG if debug else logging.WARNING)
    # It tells of its caches when the process ends.
    logging.getLogger("torch").setLevel(logging.DEBUG if debug else logging.WARNING)


@contextmanager
def quiet_client() -> Iterator[None]:
    """Keeps the Kafka client's log back where its failures become an error of ours."""
    logger = logging.getLogger(_CLIENT)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


class RepeatFilter(logging.Filter):
    """Lets a message of the Kafka client through once in a while, and counts the others."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}
        self._held: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown; one that is says how many like it were not."""
        if not record.name.startswith(_CLIENT) or record.levelno < logging.WARNING:
            return True
        key = (record.name, str(record.msg))
        now = time.monotonic()
        if now - self._last.get(key, -_QUIET_SECONDS) < _QUIET_SECONDS:
            self._held[key] = self._held.get(key, 0) + 1
            return False
        self._last[key] = now
        if held := self._held.pop(key, 0):
            record.msg = f"{record.getMessage()} (and {held} more like it)"
            record.args = None
        return True


class TextFormatter(logging.Formatter):
    """`time level logger: message`, a line each; a traceback follows its message."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text that cannot act on a terminal."""
        head = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}"
        if record.exc_info:
            head += "\n" + self.formatException(record.exc_info)
        return "\n".join(printable(line) for line in head.split("\n"))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, and a `traceback` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, its text as it may be shown."""
        import orjson

        content = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(content).decode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
