"""What stands before every request: who asks, how much they send; and the headers of every answer."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rig.panel.access import Access

LONGEST_BODY = 16 << 10  # bytes
SLOWEST_S = 15.0  # for all of a body
OPEN = ("/login", "/static/")  # without a session

_OWN = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
FOREIGN = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)  # of a unit's page: it brings its own script, and with the sandbox it is of no origin and reaches nothing here
_HEADERS = {
    "Content-Security-Policy": _OWN,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), usb=(), serial=()",
    "Cache-Control": "no-store",
}


class _TooMuch(Exception):
    """A body longer than any may be, or one that does not come."""


class Shield:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        guarded = self._guarded(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        taken, whole = 0, False
        latest = asyncio.get_running_loop().time() + SLOWEST_S

        async def bounded() -> Message:
            nonlocal taken, whole
            if whole:  # from here on it is told when the client goes, which may be in hours
                return await receive()
            try:
                async with asyncio.timeout_at(latest):
                    message = await receive()
            except TimeoutError:
                raise _TooMuch from None
            taken += len(message.get("body", b""))
            if taken > LONGEST_BODY:
                raise _TooMuch
            whole = not message.get("more_body", False)
            return message

        try:
            await self._app(scope, bounded, guarded)
        except _TooMuch:
            await _too_much()(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        why = self._access.refuses(scope["method"], headers)
        if why is not None:
            return PlainTextResponse(why, 403)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 10) or int(length) > LONGEST_BODY:
            return _too_much()
        path: str = scope["path"]
        if any(path == free or (free.endswith("/") and path.startswith(free)) for free in OPEN):
            return None
        cookies = _cookies(headers.get("cookie", ""))
        if self._access.admits(cookies.get(self._access.cookie)):
            return None
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        return JSONResponse({"error": "Log in first.", "login": True}, 401)

    def _guarded(self, send: Send) -> Send:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        return guarded


def _too_much() -> Response:
    return PlainTextResponse(f"At most {LONGEST_BODY} bytes are taken, within {SLOWEST_S:g} s.", 413)


def _cookies(header: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return {name: value for name, _, value in pairs if name}
