"""A unit's own web server, asked with a bound on everything: time, size, and where the answer may come from."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import time
from urllib.parse import quote

_LARGEST = 256 * 1024  # bytes of an answer that are read: OpenBeken's pages are below 20 KiB
_PIECE = 4096


class NoAnswer(Exception):
    """It did not answer, or with something else than a page. The text says what."""


def is_near(address: str) -> bool:
    """Whether this is an address in a private network. Anybody at the broker can claim one, so no other is asked."""
    try:
        return ipaddress.IPv4Address(address).is_private
    except ValueError:
        return False


class Web:
    """The web server at `address`. `password`: the page's own; its user is `admin` (Source: OpenBeken's sources)."""

    def __init__(self, address: str, port: int = 80, password: str = "", timeout_s: float = 3.0) -> None:
        self.address = address
        self._port, self._timeout = port, timeout_s
        self._headers = {"Connection": "close"}
        if password:
            token = base64.b64encode(f"admin:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"

    def get(self, path: str) -> str:
        """The answer's text. NoAnswer where there is none in time, or it is an error."""
        if not is_near(self.address):
            raise NoAnswer("it is no address of a private network")
        deadline = time.monotonic() + self._timeout
        connection = http.client.HTTPConnection(self.address, self._port, timeout=self._timeout)
        try:
            connection.request("GET", path, headers=self._headers)
            answer = connection.getresponse()
            body = b""
            while (piece := answer.read1(_PIECE)) and len(body) < _LARGEST:
                body += piece
                if time.monotonic() > deadline:
                    raise NoAnswer(f"its answer to {_bare(path)} was not over after {self._timeout:g} s")
        except (OSError, http.client.HTTPException) as problem:
            raise NoAnswer(f"{_bare(path)}: {str(problem) or type(problem).__name__}") from None
        finally:
            connection.close()
        if answer.status == http.client.UNAUTHORIZED:
            raise NoAnswer("it asks for a password, and the one of the provisioning is none or another one")
        if answer.status != http.client.OK:
            raise NoAnswer(f"{_bare(path)} is answered with {answer.status}")
        return body.decode("utf-8", "replace")

    def command(self, words: str) -> str:
        """One command, as OpenBeken's console takes it."""
        return self.get(f"/cm?cmnd={quote(words)}")


def _bare(path: str) -> str:
    return path.partition("?")[0]
