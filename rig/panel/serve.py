"""The page's server: where it listens, and what it takes for others than this machine to reach it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from rig.errors import UsageProblem
from rig.panel.access import Access, is_loopback, read_token
from rig.panel.app import make_app

REQUEST_S = 15.0  # a connection without a whole request for so long is closed


class _Impatient(H11Protocol):
    """HTTP for those who ask: uvicorn by itself waits for good for the rest of a request's head, and takes only so
    many connections."""

    _idle: asyncio.TimerHandle | None = None
    _cycle_before: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._idle is not None:
            self._idle.cancel()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._idle = self.loop.call_later(REQUEST_S, self._look)

    def _look(self) -> None:
        busy = self.cycle is not None and not self.cycle.response_complete
        if not busy and self.cycle is self._cycle_before:
            self.transport.close()
            return
        self._cycle_before = self.cycle
        self._look_later()


def door(host: str, tls_cert: Path | None, tls_key: Path | None, token_file: Path | None) -> Access:
    """Who may come in at this address. UsageProblem for an address that others reach without TLS and a token."""
    if (tls_cert is None) != (tls_key is None):
        raise UsageProblem("--tls-cert and --tls-key: give both or neither")
    if not is_loopback(host) and (tls_cert is None or token_file is None):
        raise UsageProblem(
            f"{host} can be reached from other machines: that takes --tls-cert, --tls-key and --token-file; "
            "without them the page is for this machine only (--host 127.0.0.1)"
        )
    if tls_cert is not None and tls_key is not None:
        _check_certificate(tls_cert, tls_key)
    return Access(None if token_file is None else read_token(token_file), secure=tls_cert is not None)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. UsageProblem where the address is taken or not ours."""
    if not 0 <= port <= 65535:
        raise UsageProblem(f"--port takes 0 to 65535, not {port}")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(128)  # from here on a browser may come, and waits
        except BaseException:
            made.close()
            raise
    except OSError as problem:
        raise UsageProblem(f"the page cannot listen at {host}, port {port}: {problem.strerror}") from None
    return made


def serve(
    runs: Path, access: Access, place: socket.socket, tls_cert: Path | None, tls_key: Path | None,
    database: str | None = None,
) -> None:  # fmt: skip
    """Until Ctrl-C or SIGTERM."""
    uvicorn.Server(config_of(make_app(runs, access, database), tls_cert, tls_key)).run(sockets=[place])


def config_of(app: FastAPI, tls_cert: Path | None, tls_key: Path | None) -> uvicorn.Config:
    """How it is served: heads and bodies bounded in size and time, no WebSockets, nothing believed of a proxy."""
    return uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2, lifespan="off",
        proxy_headers=False, limit_concurrency=256, http=_Impatient, h11_max_incomplete_event_size=16 << 10,
        ws="none", loop="asyncio",
        ssl_certfile=tls_cert, ssl_keyfile=tls_key,
    )  # fmt: skip


def _check_certificate(cert: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (OSError, ssl.SSLError) as problem:
        raise UsageProblem(f"the certificate {cert} with key {key} cannot be used: {problem}") from None
