"""What crosses the service's socket: one JSON object a line, a request and its reply, errors included."""

from __future__ import annotations

import json
import socket
from typing import Any

from rig import errors

PROTOCOL = 3
LONGEST_LINE = 1 << 20

_CODED: dict[str, type[errors.Coded]] = {"BenchBlocked": errors.BenchBlocked, "UnitFailed": errors.UnitFailed}
_PLAIN: dict[str, type[errors.RigError]] = {
    "UsageProblem": errors.UsageProblem,
    "Aborted": errors.Aborted,
    "RigError": errors.RigError,
}


class Gone(Exception):
    """The other end is not there any more."""


def encode_error(error: errors.RigError) -> dict[str, str]:
    found = {"type": type(error).__name__, "sentence": str(error)}
    if isinstance(error, errors.Coded):
        found["code"] = error.code
    return found


def decode_error(found: dict[str, str]) -> errors.RigError:
    """The same error again; one of a type that does not cross is a bug of the service and says so."""
    if found.get("type") in _CODED:
        return _CODED[found["type"]](found["code"], found["sentence"])
    return _PLAIN.get(found.get("type", ""), errors.RigError)(found["sentence"])


def line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class Lines:
    """Request and reply over a connected socket, from the client's side."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""
        self._asked = 0

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Raises Gone if the service went away, TimeoutError if it does not answer.

        Requests are numbered, so that a request cut short by Ctrl-C does not hand its reply to the next one.
        """
        self._asked += 1
        mine = self._asked
        try:
            self.sock.sendall(line({**message, "id": mine}))
            while True:
                reply = self._next()
                if reply.get("id") == mine:
                    return reply
        except TimeoutError:
            raise
        except (OSError, ValueError) as bad:
            raise Gone(str(bad)) from bad

    def _next(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            more = self.sock.recv(65536)
            if not more:
                raise Gone("the service closed the connection")
            self._rest += more
        first, _, self._rest = self._rest.partition(b"\n")
        reply: dict[str, Any] = json.loads(first)
        return reply

    def close(self) -> None:
        self.sock.close()
