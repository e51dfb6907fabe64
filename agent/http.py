"""Metrics and health over HTTP, answered by the event loop itself.

That is the point of writing these few lines: an endpoint in a thread of its own would call a loop
alive that no longer turns, and no HTTP server is among the dependencies.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prometheus_client.exposition import choose_encoder

from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from agent.setting_parts import HttpSettings

#: A request's head; those of Prometheus and Kubernetes have a few hundred bytes.
_MAX_HEAD_BYTES = 8_192

#: A client that is slower to ask than this is cut off, so that idle ones cannot pile up.
_REQUEST_SECONDS = 5.0

_MAX_CONNECTIONS = 64

_CLOSE_SECONDS = 0.5


class Health(Protocol):
    """What the probes ask."""

    def not_started(self) -> str | None:
        """Why the start is not complete; none if it is."""

    def not_ready(self) -> str | None:
        """Why no line can be scored and delivered now; none if they can."""


class _Response(NamedTuple):
    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class HttpServer:
    """Serves `/metrics`, `/livez`, `/readyz` and `/startupz`."""

    def __init__(self, registry: CollectorRegistry, health: Health) -> None:
        self._registry = registry
        self._health = health
        self._server: asyncio.Server | None = None
        self._open = 0

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None  # noqa: S101 - asked only while it is started
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, settings: HttpSettings) -> None:
        """Starts to listen.

        Raises:
            SettingError: the address cannot be used.
        """
        try:
            self._server = await asyncio.start_server(
                self._serve, settings.host, settings.port, limit=_MAX_HEAD_BYTES
            )
        except OSError as error:
            raise SettingError(
                f"cannot listen on http.host={settings.host} http.port={settings.port}: "
                f"{error.strerror or error}; name others, or --set http.port=0 for a free port"
            ) from error

    async def stop(self) -> None:
        """Stops to listen; a client in the middle of its question is not waited for."""
        if self._server is not None:
            self._server.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                if self._open > _MAX_CONNECTIONS:
                    method, response = "GET", _plain(HTTPStatus.SERVICE_UNAVAILABLE)
                else:
                    method, response = await self._answer(reader)
                head = (
                    f"HTTP/1.1 {response.status.value} {response.status.phrase}\r\n"
                    f"Content-Type: {response.content_type}\r\n"
                    f"Content-Length: {len(response.body)}\r\n"
                    "Connection: close\r\n\r\n"
                )
                writer.write(head.encode() + (b"" if method == "HEAD" else response.body))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            # The client is gone or too slow: nobody is left to answer.
            pass
        finally:
            self._open -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[str, _Response]:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.LimitOverrunError:
            return "GET", _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        request, *lines = head.split("\r\n")
        parts = request.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return "GET", _plain(HTTPStatus.BAD_REQUEST)
        method, target, _ = parts
        if method not in {"GET", "HEAD"}:
            return method, _plain(HTTPStatus.METHOD_NOT_ALLOWED)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        return method, self._respond(target.partition("?")[0], headers.get("accept", ""))

    def _respond(self, path: str, accept: str) -> _Response:
        if path == "/metrics":
            encode, content_type = choose_encoder(accept)
            return _Response(HTTPStatus.OK, encode(self._registry), content_type)
        if path == "/livez":
            return _plain(HTTPStatus.OK)
        if path == "/readyz":
            return _probe(self._health.not_ready())
        if path == "/startupz":
            return _probe(self._health.not_started())
        return _plain(HTTPStatus.NOT_FOUND)


def _probe(reason: str | None) -> _Response:
    if reason is None:
        return _plain(HTTPStatus.OK)
    return _Response(HTTPStatus.SERVICE_UNAVAILABLE, reason.encode() + b"\n")


def _plain(status: HTTPStatus) -> _Response:
    return _Response(status, status.phrase.lower().encode() + b"\n")
