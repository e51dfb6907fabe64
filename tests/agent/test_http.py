"""Metrics and health as Prometheus, Kubernetes and rude clients ask for them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.http import HttpServer
from agent.metrics import Metrics
from agent.setting_parts import HttpSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class SettableHealth:
    """Says what the test sets."""

    def __init__(self) -> None:
        self.start: str | None = None
        self.ready: str | None = None

    def not_started(self) -> str | None:
        return self.start

    def not_ready(self) -> str | None:
        return self.ready


@asynccontextmanager
async def serving(health: SettableHealth | None = None) -> AsyncIterator[HttpServer]:
    server = HttpServer(Metrics().registry, health or SettableHealth())
    await server.start(HttpSettings(port=0))
    try:
        yield server
    finally:
        await server.stop()


async def ask(server: HttpServer, request: bytes) -> tuple[int, str, bytes]:
    """Sends a request as it is; the status, head and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1] or 0) if head else 0, head.decode(), body


async def get(server: HttpServer, path: str) -> tuple[int, str, bytes]:
    return await ask(server, f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())


async def test_metrics_are_there_from_the_start() -> None:
    async with serving() as server:
        status, head, body = await get(server, "/metrics")

    assert status == 200
    assert "text/plain" in head
    assert b"crosyslog_lines_scored_total 0.0" in body
    assert b"crosyslog_build_info{" in body


async def test_prometheus_may_ask_for_its_own_format() -> None:
    async with serving() as server:
        _, head, body = await ask(
            server,
            b"GET /metrics?x=1 HTTP/1.1\r\n"
            b"Accept: application/openmetrics-text; version=1.0.0\r\n\r\n",
        )

    assert "application/openmetrics-text" in head
    assert body.endswith(b"# EOF\n")


async def test_a_probe_says_why_it_is_red() -> None:
    health = SettableHealth()
    async with serving(health) as server:
        assert [(await get(server, path))[0] for path in ("/livez", "/readyz", "/startupz")] == [
            200, 200, 200,
        ]  # fmt: skip
        health.ready, health.start = "no broker has answered", "starting"
        status, _, body = await get(server, "/readyz")
        assert (status, body) == (503, b"no broker has answered\n")
        status, _, body = await get(server, "/startupz")
        assert (status, body) == (503, b"starting\n")
        assert (await get(server, "/livez"))[0] == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    ],
)
async def test_other_requests_get_the_status_that_they_deserve(
    request_: bytes, status: int
) -> None:
    async with serving() as server:
        assert (await ask(server, request_))[0] == status


async def test_head_has_no_body() -> None:
    async with serving() as server:
        status, head, body = await ask(server, b"HEAD /livez HTTP/1.1\r\n\r\n")

    assert (status, body) == (200, b"")
    assert "Content-Length: 3" in head


async def test_a_client_that_does_not_ask_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.http._REQUEST_SECONDS", 0.1)
    async with serving() as server:
        assert await ask(server, b"GET /livez HTT") == (0, "", b"")
        assert (await get(server, "/livez"))[0] == 200
